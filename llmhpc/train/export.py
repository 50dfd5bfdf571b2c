"""A checkpoint of any layout as a Hugging Face folder: shards are joined, renamed and split, one tensor after the other."""

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from llmhpc.files import read_json, write_json
from llmhpc.models import Model, Rows, hugging_face
from llmhpc.train.checkpoints import CHECKPOINTS
from llmhpc.train.pieces import Shards, Tensor, write_tensors
from llmhpc.train.settings import Schedule

EXPORTS, INDEX = "exports", "exports.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer"
PARTIAL = ".partial"
FILE_BYTES = 5_000_000_000  # of weights, unless one tensor has more: what the hub advises


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
    names, dtype = hugging_face(model.kind), getattr(torch, schedule.precision.name)
    write_weights(partial, Shards(out / CHECKPOINTS / str(step)), names.rows(model), dtype)
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


def write_weights(
    folder: Path,
    shards: Shards,
    rows: list[Rows],
    dtype: torch.dtype,
    file_bytes: int = FILE_BYTES,
) -> None:
    """Write model.safetensors, or several files of up to ``file_bytes`` and their index, as transformers does.

    One tensor of ours is in memory at a time. Raises ArtifactError where a part of one is missing.
    """
    named = {
        part: Tensor(
            part.theirs, dtype, [part.stop - part.start, *shards.shape(f"weight/{part.ours}")[1:]]
        )
        for part in rows
    }
    files: list[list[Rows]] = []
    room = 0
    for part, tensor in named.items():
        if not files or tensor.size_bytes > room:
            files.append([])
            room = file_bytes
        files[-1].append(part)
        room -= tensor.size_bytes
    where: dict[str, str] = {}
    for number, parts in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}" if len(files) > 1 else "model"
        path = folder / f"{name}.safetensors"
        tensors = [named[part] for part in parts]
        write_tensors(path, tensors, {"format": "pt"}, _numbers(shards, parts))
        where |= {part.theirs: path.name for part in parts}
    if len(files) > 1:
        size = {"total_size": sum(tensor.size_bytes for tensor in named.values())}
        write_json(folder / WEIGHTS_INDEX, {"metadata": size, "weight_map": where})


def _numbers(shards: Shards, parts: Iterable[Rows]) -> Iterator[torch.Tensor]:
    for ours, same in itertools.groupby(parts, lambda part: part.ours):
        whole = shards.whole(f"weight/{ours}")
        for part in same:
            yield whole[part.start : part.stop]


def _special_ids(tokenizer: Path, eos_id: int) -> dict[str, Any]:
    """Documents end with eos and so begin after it; padding is looked up by its name."""
    ids = {"bos_token_id": eos_id, "eos_token_id": eos_id}
    pad = (read_json(tokenizer / "special_tokens_map.json") or {}).get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    added = json.loads((tokenizer / "tokenizer.json").read_text()).get("added_tokens", [])
    found = next((token["id"] for token in added if token["content"] == pad), None)
    return ids if found is None else ids | {"pad_token_id": found}
