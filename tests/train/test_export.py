"""The exported folder is the network that was trained."""

import pytest
import torch

from llmhpc.config import Resources
from llmhpc.errors import ArtifactError
from llmhpc.files import read_json
from llmhpc.models.llama import RopeScaling
from llmhpc.tokens.reader import TokenFiles

LOGIT_BOUND = 1e-4


def exported(home, step):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(home / "exports" / f"{step:06d}").eval()


def logits_of_nanotron(cfg, checkpoint, input_ids):
    """Logits (B, S, V) of a checkpoint, by the network that was trained, in one process."""
    from llmhpc.processes import joined

    with joined(1, Resources(), checkpoint) as place:
        from llmhpc.train.engine import Engine

        engine = Engine(cfg.model, cfg.parallel, cfg.schedule, seed=1, place=place)
        engine.load(checkpoint, updates=3)
        network = engine.network
        with torch.no_grad():
            hidden = network.embedding(input_ids=input_ids)["hidden"]
            for layer in network.layers:
                hidden = layer(hidden=hidden, documents=None)["hidden"]
            return network.head(hidden=hidden)["logits"].transpose(0, 1)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"tied_embeddings": False},
        {"kv_heads": 4, "rope_theta": 500000.0},
        {"kv_heads": 1},
        {
            "mup_base_width": 16,
            "init_std": 0.1,
            "embedding_multiplier": 12.0,
            "scale_depth": 1.4,
        },
        {"residual_multiplier": 0.4, "attention_multiplier": 0.5, "logit_multiplier": 3.0},
        {"rope_scaling": RopeScaling(factor=4.0, original_positions=16)},
    ],
    ids=[
        "tied grouped",
        "untied grouped",
        "one key per query",
        "one key for all",
        "muP as MiniCPM",
        "multipliers",
        "longer",
    ],
)
def test_logits_of_an_export_equal_those_of_the_trained_network(model, runs, tmp_path):
    home = tmp_path / "run"
    cfg = runs.settings(model=model)
    runs.here(home, model=model, schedule={"steps": 3})
    input_ids = torch.randint(
        0, cfg.model.vocab_size, (2, 32), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        theirs = exported(home, 3)(input_ids=input_ids).logits
    ours = logits_of_nanotron(cfg, home / "checkpoints" / "3", input_ids)
    assert (ours - theirs).abs().max() < LOGIT_BOUND
    assert theirs.std() > 0.1


def test_only_what_has_multipliers_is_exported_as_granite():
    from llmhpc.models import hugging_face
    from llmhpc.models.llama import Config

    def kind(**fields):
        model = Config(**fields)
        return hugging_face("llama").config(model, sequence_length=8, dtype="float32")["model_type"]

    assert kind() == kind(init_std=0) == "llama"
    assert kind(mup_base_width=128) == kind(logit_multiplier=0.5) == "granite"


def next_loss(runs, cfg, home, step):
    """Loss of the export on the batch that training read after it."""
    from llmhpc.train.data import Batches

    batches = Batches(TokenFiles(runs.inputs["tokens"]), cfg.schedule, seed=7)
    rows = next(batches.micro_batches(step + 1, dp_rank=0, dp=1, micro_batch=8))
    tokens = torch.from_numpy(rows.tokens)
    with torch.no_grad():
        logits = exported(home, step)(input_ids=tokens[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_an_export_joins_the_shards_of_tensor_and_pipeline_parallel_processes(tied, runs, tmp_path):
    home, model = tmp_path / "run", {"tied_embeddings": tied}
    records = runs.spread(home, model=model, parallel={"tp": 2, "pp": 2})
    assert abs(next_loss(runs, runs.settings(model=model), home, 3) - records[3]["loss"]) < 1e-5


def test_the_loss_after_a_checkpoint_is_that_of_its_export(runs, single):
    assert abs(next_loss(runs, runs.settings(), single, 3) - runs.records(single)[3]["loss"]) < 1e-5


def test_an_export_is_a_whole_hugging_face_folder(runs, single):
    from transformers import AutoTokenizer

    assert read_json(single / "exports.json") == [
        {"step": step, "tokens": step * 256, "path": f"exports/{step:06d}"} for step in (3, 6, 8)
    ]
    folder = single / "exports" / "000008"
    config = read_json(folder / "config.json")
    assert (config["eos_token_id"], config["pad_token_id"]) == (0, 1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("w5 w9")["input_ids"] == [5, 9]
    model = exported(single, 8)
    assert sum(p.numel() for p in model.parameters()) == runs.settings().model.parameters()
    out = model.generate(
        **tokenizer("w5 w9", return_tensors="pt"), max_new_tokens=4, min_new_tokens=4
    )
    assert out.shape == (1, 6)


def test_large_weights_are_cut_into_files_of_a_size(runs, single, tmp_path):
    from transformers import AutoModelForCausalLM

    from llmhpc.models.llama import hugging_face
    from llmhpc.train.export import write_weights
    from llmhpc.train.pieces import Shards

    model, whole = runs.settings().model, single / "exports" / "000008"
    shards = Shards(single / "checkpoints" / "8")
    limit = 100_000  # bytes
    write_weights(tmp_path, shards, hugging_face.rows(model), torch.float32, limit)
    (tmp_path / "config.json").write_bytes((whole / "config.json").read_bytes())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    assert max((tmp_path / name).stat().st_size for name in files) < limit + 4096  # of the header
    index = read_json(tmp_path / "model.safetensors.index.json")
    assert index["metadata"]["total_size"] == 4 * model.parameters()
    assert set(index["weight_map"].values()) == {
        path.name for path in tmp_path.glob("*.safetensors")
    }
    read = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    for name, tensor in exported(single, 8).state_dict().items():
        assert torch.equal(tensor, read[name]), name


def test_a_missing_shard_is_named(tmp_path):
    from llmhpc.models import Rows
    from llmhpc.train import pieces
    from llmhpc.train.export import write_weights

    blocks = [([[0, 2], [0, 2]], [[0, 2], [0, 2]])]
    cut = pieces.Cut([4, 2], [2, 2], blocks, 0, 4)
    held = [pieces.Piece("weight/down.weight", cut, torch.ones(4), written=True)]
    pieces.write(tmp_path / "weights-00000.safetensors", held, lambda piece: piece.row)
    pieces.write_index(tmp_path)
    rows = [Rows("down", "down.weight", 0, 4)]
    with pytest.raises(ArtifactError, match="parts of weight/down.weight are missing"):
        write_weights(tmp_path, pieces.Shards(tmp_path), rows, torch.float32)
