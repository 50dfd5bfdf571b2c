import pytest

from llmhpc.errors import ConfigError
from llmhpc.models.llama import Config

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
