from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llmhpc.errors import ConfigError
from llmhpc.models.llama import Config, RopeScaling, hugging_face

PUBLISHED = {  # parameters of the released checkpoints
    6_738_415_616: {  # Llama 2 7B
        "vocab_size": 32000,
        "hidden_size": 4096,
        "layers": 32,
        "heads": 32,
        "kv_heads": 32,
        "intermediate_size": 11008,
        "tied_embeddings": False,
    },
    1_235_814_400: {  # Llama 3.2 1B
        "vocab_size": 128256,
        "hidden_size": 2048,
        "layers": 16,
        "heads": 32,
        "kv_heads": 8,
        "intermediate_size": 8192,
    },
}


@pytest.mark.parametrize("count", PUBLISHED)
def test_parameter_counts_are_the_published_ones(count):
    assert Config(**PUBLISHED[count]).parameters() == count


@pytest.mark.parametrize(
    ("name", "published", "vocab_size"),
    [  # of the released checkpoints, which have another vocabulary
        ("llama_135m", 134_515_008, 49152),
        ("llama_360m", 361_821_120, 49152),
        ("llama_1b", 1_235_814_400, 128256),
        ("llama_3b", 3_212_749_824, 128256),
        ("llama_8b", 8_030_261_248, 128256),
    ],
)
def test_a_choice_has_the_shape_that_it_is_named_after(name, published, vocab_size):
    path = Path(__file__).parents[2] / "conf" / "model" / f"{name}.yaml"
    shape = OmegaConf.to_container(OmegaConf.load(path)) | {"vocab_size": vocab_size}
    del shape["defaults"]
    assert Config(**shape).parameters() == published


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 6}, "hidden_size=256: a multiple of 2 x heads=6"),
        ({"kv_heads": 3}, "kv_heads=3: a divisor of heads=4"),
        ({"layers": 0}, "layers=0: 1 or more"),
        ({"mup_base_width": -1}, "mup_base_width=-1: 0 or more"),
        ({"logit_multiplier": 0.0}, "logit_multiplier=0: above 0"),
        (
            {"scale_depth": 1.4, "residual_multiplier": 0.5},
            "scale_depth=1.4: 0, with residual_multiplier=0.5",
        ),
    ],
)
def test_a_shape_that_cannot_be_is_one_clear_line(change, message):
    with pytest.raises(ConfigError) as caught:
        Config(**change)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"tp": 3, "pp": 1}, "parallel.tp=3: a divisor of model.heads=4"),
        ({"tp": 4, "pp": 1}, "parallel.tp=4: a divisor of model.kv_heads=2"),
        ({"tp": 1, "pp": 5}, "parallel.pp=5: at most model.layers=4"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_clear_line(split, message):
    with pytest.raises(ConfigError) as caught:
        Config().check_split(**split)
    assert message in str(caught.value)


def test_every_pipeline_stage_gets_a_block_however_large_the_vocabulary():
    for layers in range(1, 9):
        for pp in range(1, layers + 1):
            for vocab in (64, 4096, 1_000_000):
                layer, head = Config(layers=layers, vocab_size=vocab).block_costs(pp)
                costs = [layer] * layers + [head]
                stage, total, filled = 0, 0, set()
                for cost in costs:  # the rule of build_model in nanotron/models/base.py
                    filled.add(stage)
                    total += cost
                    stage += total > sum(costs) * ((stage + 1) / pp)
                assert filled == set(range(pp)), (layers, pp, vocab)


@pytest.mark.parametrize(
    ("theta", "scaling"),
    [
        (10000.0, RopeScaling()),
        (500000.0, RopeScaling(factor=8.0)),  # Llama 3.1
        (500000.0, RopeScaling(factor=32.0)),  # Llama 3.2
        (10000.0, RopeScaling(factor=4.0, low_frequency_factor=2.0, original_positions=2048)),
    ],
)
def test_rotary_frequencies_are_those_of_transformers(theta, scaling):
    import torch
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    from llmhpc.models.llama.rope import frequencies

    model = Config(hidden_size=512, rope_theta=theta, rope_scaling=scaling)
    content = hugging_face.config(model, sequence_length=131072, dtype="float32")
    theirs = LlamaRotaryEmbedding(LlamaConfig(**content)).inv_freq
    ours = frequencies(model.rope(), model.head_dim, torch.device("cpu"))
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=0)
    slowed = (ours < frequencies(model.rope()._replace(factor=1.0), 128, ours.device)).sum()
    assert bool(slowed) == (scaling.factor > 1)


def llama_3_1(**rope):
    """What matters here of the published config.json of Llama 3.1 8B."""
    return {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
        "rope_scaling": {
            "factor": 8.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        }
        | rope,
    }


def test_settings_are_read_from_a_published_config():
    model = hugging_face.settings(llama_3_1())
    assert model.parameters() == 8_030_261_248  # of the released checkpoint
    assert model.rope_scaling == RopeScaling(factor=8.0)
    for dtype in ("float32", "bfloat16"):
        again = hugging_face.config(model, sequence_length=4096, dtype=dtype)
        assert hugging_face.settings(again) == model


def test_other_scalings_are_refused():
    with pytest.raises(ConfigError, match="rope_type=yarn: default or llama3"):
        hugging_face.settings(llama_3_1(rope_type="yarn"))
    with pytest.raises(
        ConfigError, match="high_frequency_factor=1.0: above low_frequency_factor=1.0"
    ):
        hugging_face.settings(llama_3_1(high_freq_factor=1.0))
