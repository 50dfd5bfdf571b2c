"""Training that begins with a model of transformers': the same network, in any layout, and the way back."""

import json
import shutil

import pytest
import torch

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.files import read_json, sha256
from llmhpc.models.llama import Config as Llama
from llmhpc.models.llama import RopeScaling, hugging_face
from llmhpc.planning.plan import plain
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.data import Batches

BOUND = 1e-4
STEPS = {"steps": 4, "warmup_steps": 2}
SHAPES = {
    "tied grouped": {},
    "untied": {"tied_embeddings": False, "norm_eps": 1e-6},
    "one key per query": {
        "kv_heads": 4,
        "rope_scaling": RopeScaling(factor=8.0, original_positions=16),
    },
    "multipliers": {
        "embedding_multiplier": 12.0,
        "scale_depth": 1.4,
        "attention_multiplier": 0.1,
        "logit_multiplier": 0.7,
    },
}


def written_by_transformers(folder, model, **saving):
    """A folder with a network of transformers' own making."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    content = hugging_face.config(model, sequence_length=64, dtype="float32")
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**content))
    network.save_pretrained(folder, **saving)
    return folder


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    """The shape of the other runs, untied, in several files."""
    folder = tmp_path_factory.mktemp("folder")
    model = runs.settings(model=SHAPES["untied"]).model
    written_by_transformers(folder, model, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def losses_of_transformers(folder, runs, cfg):
    """Trained by torch's own AdamW on the batches that our training reads."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(folder)
    schedule, named = cfg.schedule, list(network.named_parameters())
    groups = [
        {"params": [p for n, p in named if p.dim() > 1 and "embed" not in n]},
        {"params": [p for n, p in named if p.dim() == 1 or "embed" in n], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(
        groups, betas=(schedule.beta1, schedule.beta2), weight_decay=schedule.weight_decay
    )
    batches = Batches(TokenFiles(runs.inputs["tokens"]), schedule, seed=7)
    for step in range(1, schedule.steps + 1):
        (rows,) = batches.micro_batches(step, dp_rank=0, dp=1, micro_batch=schedule.global_batch)
        tokens = torch.from_numpy(rows.tokens)
        logits = network(input_ids=tokens[:, :-1]).logits.flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        yield loss.item()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), schedule.clip_norm)
        for group in adam.param_groups:
            group["lr"] = schedule.learning_rate(step)
        adam.step()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_training_goes_on_as_transformers_model_does(shape, runs, tmp_path):
    asked = {"model": shape, "schedule": STEPS}
    cfg = runs.settings(**asked)
    folder = written_by_transformers(tmp_path / "folder", cfg.model)
    records = runs.here(tmp_path / "run", pretrained=str(folder), **asked)
    theirs = list(losses_of_transformers(folder, runs, cfg))
    assert max(abs(r["loss"] - loss) for r, loss in zip(records, theirs, strict=True)) < BOUND
    assert theirs[0] - theirs[-1] > 100 * BOUND


@pytest.mark.slow
def test_every_process_of_a_layout_takes_its_own_part(runs, folder, tmp_path):
    asked = {"model": SHAPES["untied"], "schedule": STEPS}
    parallel = {"tp": 2, "pp": 2}
    records = runs.spread(tmp_path / "run", parallel=parallel, pretrained=str(folder), **asked)
    theirs = list(losses_of_transformers(folder, runs, runs.settings(**asked)))
    assert max(abs(r["loss"] - loss) for r, loss in zip(records, theirs, strict=True)) < BOUND


@pytest.mark.parametrize(
    ("precision", "model"),
    [("float32", {}), ("bfloat16", {}), ("float32", {"mup_base_width": 24, "scale_depth": 1.4})],
    ids=["float32", "bfloat16", "muP"],
)
def test_an_export_that_was_imported_is_exported_to_the_same_bytes(
    precision, model, runs, tmp_path
):
    from llmhpc.train.settings import Precision

    schedule = {"steps": 1, "warmup_steps": 0, "precision": Precision[precision]}
    runs.here(tmp_path / "first", schedule=schedule, model=model)
    first = tmp_path / "first" / "exports" / "000001"
    still = schedule | {"lr": 0.0, "min_lr": 0.0}
    runs.here(tmp_path / "second", schedule=still, pretrained=str(first), model=model)
    second = tmp_path / "second" / "exports" / "000001"
    for path in first.iterdir():
        assert sha256(path) == sha256(second / path.name), path.name
    assert sorted(p.name for p in first.iterdir()) == sorted(p.name for p in second.iterdir())


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_own_checkpoint(runs, folder, tmp_path):
    asked = {"model": SHAPES["untied"], "checkpoint_every": 2}
    whole = runs.here(tmp_path / "whole", pretrained=str(folder), **asked)
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    runs.start(tmp_path / "run", pretrained=str(copy), **asked).kill_after(step=5)
    assert (tmp_path / "run" / "checkpoints" / "2").exists()
    again = runs.here(tmp_path / "run", pretrained=str(copy), **asked)
    assert [r["loss"] for r in again] == [r["loss"] for r in whole]


def changed(folder, copy, **values):
    """A copy of the folder with another config.json; a value of None takes a key out."""
    shutil.copytree(folder, copy)
    config = read_json(copy / "config.json") | values
    config = {key: value for key, value in config.items() if value is not None}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 32, "head_dim": 8}, r"model\.hidden_size=64: 32, as .*copy has"),
        ({"vocab_size": 256}, r"model\.vocab_size=128: 256, as .*copy has"),
        ({"rope_parameters": None, "rope_theta": 5e5}, r"model\.rope_theta=10000\.0: 500000\.0, as"),
        ({"tie_word_embeddings": True}, r"model\.tied_embeddings=False: True, as .*copy has"),
        ({"model_type": "qwen2"}, "pretrained=.*copy: config.json has model_type=qwen2: llama or granite, there is no other"),
        ({"model_type": "granite"}, r"model\.attention_multiplier=0\.0: 1\.0, as .*copy has"),
        ({"attention_bias": True}, "config.json has attention_bias=True: False, llama has no other"),
        ({"head_dim": 32}, "config.json has head_dim=32: 16, hidden_size over heads"),
        ({"num_hidden_layers": None}, "config.json has no num_hidden_layers"),
    ],
)  # fmt: skip
def test_another_model_is_one_line_before_anything_begins(values, message, runs, folder, tmp_path):
    copy = changed(folder, tmp_path / "copy", **values)
    asked = {"model": SHAPES["untied"], "pretrained": str(copy)}
    found = runs.settings(**asked).foresee(runs.inputs, tmp_path, machine_gb=None)
    assert len(found) == 1
    assert not found[0].estimate
    with pytest.raises(ConfigError, match=message) as caught:
        runs.here(tmp_path / "run", **asked)
    assert str(caught.value) == found[0].message
    assert "\n" not in found[0].message
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_is_no_folder_of_transformers_is_one_line(runs, tmp_path):
    cfg = runs.settings(pretrained=str(tmp_path))
    (finding,) = cfg.foresee(runs.inputs, tmp_path, machine_gb=None)
    assert finding.message == (
        f"pretrained={tmp_path}: no config.json there; a folder that transformers opens"
    )


HUB = f"someone/model@{'0' * 40}"


def test_a_snapshot_of_the_hub_is_a_folder(runs, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache = tmp_path / "models--someone--model" / "snapshots" / ("0" * 40)
    shutil.copytree(folder, cache)
    asked = {"model": SHAPES["untied"], "schedule": STEPS}
    cfg = runs.settings(**asked, pretrained=HUB)
    (finding,) = cfg.foresee(runs.inputs, tmp_path, machine_gb=None)
    assert finding.message == (
        f"pretrained={HUB}: the hub cannot be reached; where it can: hf download someone/model"
        f" --revision {'0' * 40}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert cfg.foresee(runs.inputs, tmp_path, machine_gb=None) == []
    records = runs.here(tmp_path / "run", pretrained=HUB, **asked)
    theirs = list(losses_of_transformers(folder, runs, cfg))
    assert max(abs(r["loss"] - loss) for r, loss in zip(records, theirs, strict=True)) < BOUND


def test_another_tokenizer_is_one_line(runs, single, tmp_path):
    copy = shutil.copytree(single / "exports" / "000003", tmp_path / "copy")
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text.replace('"w5"', '"five"'))
    cfg = runs.settings(pretrained=str(copy))
    (finding,) = cfg.foresee(runs.inputs, tmp_path, machine_gb=None)
    assert finding.message == (
        f"needs.tokenizer={runs.inputs['tokenizer'].name}: token 5 is 'w5', in {copy} 'five';"
        " stage/tokenizer=folder takes the folder's own"
    )


def test_a_model_begins_in_one_way_only(runs):
    with pytest.raises(ConfigError, match=r"pretrained=/a: either it or start_from=/b"):
        runs.settings(pretrained="/a", start_from="/b")
    with pytest.raises(ConfigError, match=r"pretrained=/a: either it or needs.start=other"):
        runs.settings(pretrained="/a", needs=runs.base.needs | {"start": "other"})


def test_tensors_that_are_not_there_are_named(folder, tmp_path):
    from llmhpc.train.imported import Imported

    model = Llama(vocab_size=128, hidden_size=64, layers=5, intermediate_size=96)
    with pytest.raises(ArtifactError, match=r"has no tensor model\.layers\.4\.input_layernorm"):
        Imported(folder, model)


def test_another_content_of_the_folder_is_another_training(runs, folder, tmp_path):
    def identity(copy):
        cfg = runs.settings(pretrained=str(copy))
        cfg.settle()
        return plain(cfg, identity_only=True)

    copy = shutil.copytree(folder, tmp_path / "copy")
    before = identity(copy)
    assert identity(copy) == before
    for name in ("config.json", sorted(path.name for path in copy.glob("*.safetensors"))[1]):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert identity(copy) != before
        (copy / name).write_bytes(whole)
    assert identity(copy) == before
    assert "pretrained_content" not in plain(runs.settings(), identity_only=True)
