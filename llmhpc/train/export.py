"""A checkpoint of any layout as a Hugging Face folder: shards are joined offline, then renamed and split."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from llmhpc.files import read_json, write_json
from llmhpc.models import Model, hugging_face
from llmhpc.train.checkpoints import CHECKPOINTS
from llmhpc.train.pieces import Shards
from llmhpc.train.settings import Schedule

EXPORTS, INDEX = "exports", "exports.json"
TOKENIZER = "tokenizer"
PARTIAL = ".partial"


def export(
    out: Path, step: int, *, model: Model, schedule: Schedule, tokenizer: Path, eos_id: int
) -> Path:
    """Write exports/{step:06d} from checkpoints/{step}, unless it is there. Not to be run by two at once.

    ``tokenizer`` is the tokenizer step's directory. Raises ArtifactError when a shard is missing.
    """
    final = out / EXPORTS / f"{step:06d}"
    if final.exists():
        return final
    partial = final.with_name(f"{final.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(tokenizer / TOKENIZER, partial)
    names = hugging_face(model)
    tensors = names.tensors(model, whole_tensors(out / CHECKPOINTS / str(step)))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    config = names.config(
        model, sequence_length=schedule.sequence_length, dtype=schedule.precision.name
    )
    special = _special_ids(partial, eos_id)
    write_json(partial / "config.json", config | special)
    write_json(partial / "generation_config.json", {"do_sample": False} | special)
    partial.replace(final)
    return final


def write_index(out: Path, schedule: Schedule) -> None:
    """exports.json: every export there is, with the tokens that it has seen."""
    entries = [
        {
            "step": int(folder.name),
            "tokens": schedule.tokens_at(int(folder.name)),
            "path": str(folder.relative_to(out)),
        }
        for folder in _folders(out)
    ]
    write_json(out / INDEX, entries)


def forget_beyond(out: Path, step: int) -> None:
    """Delete what a kill left half written, and exports of steps that are made again."""
    for path in (out / EXPORTS).glob(f"*{PARTIAL}"):
        shutil.rmtree(path)
    for folder in _folders(out):
        if int(folder.name) > step:
            shutil.rmtree(folder)


def _folders(out: Path) -> list[Path]:
    return sorted(path for path in (out / EXPORTS).glob("*") if path.name.isdigit())


def whole_tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every parameter of a checkpoint, joined over its shards, by its name in the network."""
    shards = Shards(checkpoint)
    return {name: shards.whole(f"weight/{name}") for name in shards.names("weight")}


def _special_ids(tokenizer: Path, eos_id: int) -> dict[str, Any]:
    """Documents end with eos and so begin after it; padding is looked up by its name."""
    ids = {"bos_token_id": eos_id, "eos_token_id": eos_id}
    pad = (read_json(tokenizer / "special_tokens_map.json") or {}).get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    added = json.loads((tokenizer / "tokenizer.json").read_text()).get("added_tokens", [])
    found = next((token["id"] for token in added if token["content"] == pad), None)
    return ids if found is None else ids | {"pad_token_id": found}
