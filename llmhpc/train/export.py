"""A checkpoint of any layout as a Hugging Face folder: shards are joined offline, then renamed and split."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json, write_json
from llmhpc.models import Model, hugging_face
from llmhpc.train.checkpoints import CHECKPOINTS
from llmhpc.train.settings import Schedule

# isort: split
from nanotron.serialize.metadata import TensorMetadata

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
    tensors = names.tensors(model, whole_tensors(out / CHECKPOINTS / str(step) / "model"))
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
            "tokens": int(folder.name) * schedule.tokens_per_step(),
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


def whole_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Every parameter under a checkpoint's model/, joined over its shards, by its name in the network."""
    found: dict[str, torch.Tensor] = {}
    filled: dict[str, int] = {}
    for path in sorted(folder.rglob("model_*.safetensors")):
        suffix = path.name.removeprefix("model_").removesuffix(".safetensors").split("_pp-rank-")[0]
        parts = [part for part in path.parent.relative_to(folder).parts if part != "pp_block"]
        name = ".".join([*parts, suffix])
        with safe_open(path, framework="pt") as file:
            data, metadata = file.get_tensor("data"), file.metadata()
        if not metadata or "unsharded_shape" not in metadata:
            found[name], filled[name] = data, data.numel()
            continue
        info = TensorMetadata.from_str_dict(metadata)
        whole = found.setdefault(name, data.new_empty(info.unsharded_shape))
        for pair in info.local_global_slices_pairs:
            whole[pair.global_slices] = data[pair.local_slices]
        filled[name] = filled.get(name, 0) + data.numel()
    if short := [name for name, tensor in found.items() if filled[name] != tensor.numel()]:
        raise ArtifactError(f"{folder}: shards of {', '.join(short[:3])} are missing")
    return found


def _special_ids(tokenizer: Path, eos_id: int) -> dict[str, Any]:
    """Documents end with eos and so begin after it; padding is looked up by its name."""
    ids = {"bos_token_id": eos_id, "eos_token_id": eos_id}
    pad = (read_json(tokenizer / "special_tokens_map.json") or {}).get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    added = json.loads((tokenizer / "tokenizer.json").read_text()).get("added_tokens", [])
    found = next((token["id"] for token in added if token["content"] == pad), None)
    return ids if found is None else ids | {"pad_token_id": found}
