"""Checkpoints that are whole or not there: written under another name, checked, renamed; ``latest.txt`` last.

checkpoints/{step}/weights-{process}.safetensors    what each process holds of the network
checkpoints/{step}/optimizer-{process}.safetensors  and of AdamW's moments and float32 weights
checkpoints/{step}/index.json                       where each row of them lies in the whole tensors
checkpoints/{step}/state.json                       step, tokens, where the data go on, and sha256 of every file
"""

import logging
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llmhpc.errors import StageError
from llmhpc.files import files_below, read_json, sha256, write_json
from llmhpc.models import Model
from llmhpc.train import pieces
from llmhpc.train.settings import Parallel

CHECKPOINTS, LATEST, STATE = "checkpoints", "latest.txt", "state.json"
PARTIAL = ".partial"
LAYOUT = ("dp", "tp", "pp", "zero_stage")
FORMAT = 2  # of state.json and what it speaks of

log = logging.getLogger(__name__)


def partial_folder(out: Path, step: int, token: str) -> Path:
    """Where the checkpoint of ``step`` grows; ``token`` tells this start from one that may still be dying."""
    return out / CHECKPOINTS / f"{step}{PARTIAL}-{token}"


def publish(partial: Path, state: dict[str, Any]) -> Path:
    """Check what all processes have written to ``partial``, make it the checkpoint of its step and the latest."""
    final = partial.with_name(str(state["step"]))
    pieces.write_index(partial)
    files = state["files"] | {pieces.INDEX: _seen(partial / pieces.INDEX)}
    for name, seen in files.items():
        if (size := (partial / name).stat().st_size) != seen["bytes"]:
            raise StageError(f"{partial / name}: {size} bytes, {seen['bytes']} were written")
    write_json(partial / STATE, state | {"format": FORMAT, "files": files})
    for folder in {path.parent for path in files_below(partial)}:
        _sync(folder)
    shutil.rmtree(final, ignore_errors=True)  # only a damaged one can be there
    partial.replace(final)
    _sync(final.parent)
    write_json(final.with_name(LATEST), state["step"])
    return final


def whole_steps(out: Path) -> list[int]:
    """Steps whose checkpoints have all their files in full length, rising; others are passed over with a warning."""
    return [step for step in _steps(out) if _is_whole(out / CHECKPOINTS / str(step))]


def _steps(out: Path) -> list[int]:
    folder = out / CHECKPOINTS
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdigit())


def keep_only(out: Path, wanted: Callable[[int], bool]) -> None:
    """Delete the checkpoints of other steps."""
    for step in _steps(out):
        if not wanted(step):
            shutil.rmtree(out / CHECKPOINTS / str(step))


def remove_partial(out: Path) -> None:
    """Delete what a kill left half written."""
    for path in (out / CHECKPOINTS).glob(f"*{PARTIAL}*"):
        shutil.rmtree(path)


def newest(out: Path, *, rank: int, device: torch.device) -> tuple[int, str]:
    """The newest checkpoint of which every byte is as written, 0 if there is none, and a token of this start.

    All processes call this together: each reads its share of the files.
    """
    found: list[Any] = [[], ""]
    if rank == 0:
        remove_partial(out)
        found = [whole_steps(out)[::-1], secrets.token_hex(4)]
    dist.broadcast_object_list(found, src=0, device=device)
    steps, token = found
    for step in steps:
        good = torch.tensor(int(_is_sound(out / CHECKPOINTS / str(step), rank)), device=device)
        dist.all_reduce(good, op=dist.ReduceOp.MIN)
        if good.item():
            return step, token
    return 0, token


def _is_sound(folder: Path, rank: int) -> bool:
    files: dict[str, dict[str, Any]] = read_json(folder / STATE)["files"]
    for name in sorted(files)[rank :: dist.get_world_size()]:
        if sha256(folder / name) != files[name]["sha256"]:
            log.warning("%s is damaged (%s): passed over", folder, name)
            return False
    return True


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Step, tokens, steps of the optimizer, where the data go on, and the layout that wrote it."""
    return read_json(checkpoint / STATE)


def layout(parallel: Parallel) -> dict[str, Any]:
    """What decides which process holds what."""
    return {key: getattr(parallel, key) for key in LAYOUT}


def check_model(checkpoint: Path, model: Model) -> None:
    """Raise StageError unless the checkpoint is of this model, with the first setting that is not the same."""
    there, here = read_json(checkpoint / STATE)["model"], asdict(model)
    for name in here | there:
        if here.get(name) != there.get(name):
            raise StageError(
                f"model.{name}={here.get(name)}: {there.get(name)}, as {checkpoint} was trained with; or another "
                "name for this run"
            )


def _is_whole(folder: Path) -> bool:
    state = read_json(folder / STATE)
    if not state or state.get("format") != FORMAT:
        log.warning("%s is damaged, or of another version: passed over", folder)
        return False
    for name, seen in state["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != seen["bytes"]:
            log.warning("%s is damaged (%s): passed over", folder, name)
            return False
    return True


def _seen(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
