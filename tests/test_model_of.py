"""A folder's config.json becomes a choice of the group model."""

import json

import pytest

from llmhpc import model_of
from llmhpc.models.llama import Config, RopeScaling, hugging_face
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plan

MODEL = Config(
    vocab_size=4096,
    hidden_size=128,
    heads=2,
    kv_heads=1,
    tied_embeddings=False,
    rope_theta=500000.0,
    rope_scaling=RopeScaling(factor=8.0),
)


@pytest.fixture
def folder(tmp_path):
    content = hugging_face.config(MODEL, sequence_length=64, dtype="float32")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(content))
    return tmp_path / "mine"


def test_what_it_writes_plans(folder, tmp_path, monkeypatch, capsys):
    from importlib import resources

    conf = tmp_path / "conf"
    real = resources.files("llmhpc.conf")
    for path in real.rglob("*.yaml"):
        copy = conf / path.relative_to(real)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    files = resources.files
    monkeypatch.setattr(
        resources, "files", lambda package: conf if package == "llmhpc.conf" else files(package)
    )
    assert model_of.main([str(folder), "--write", "mine"]) == 0
    assert "conf/model/mine.yaml; use model=mine" in capsys.readouterr().out
    cfg = compose(["model=mine"])
    assert cfg.stages["train"].model == MODEL
    assert plan(cfg)
    assert model_of.main([str(folder), "--write", "mine"]) == 2
    assert "mine.yaml is there already; another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no config.json there; a folder that transformers opens"),
        ({"model_type": "bert"}, "config.json has model_type=bert: one of llama"),
        ({"model_type": "llama"}, "config.json has no num_attention_heads"),
        ({"model_type": "llama", "mlp_bias": True}, "config.json has mlp_bias=True: False"),
    ],
)
def test_what_cannot_be_trained_is_one_line(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "config.json").write_text(json.dumps(content))
    assert model_of.main([str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"llmhpc: {tmp_path}: {message}")
    assert len(err.splitlines()) == 1
    assert out == ""
