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
from llmhpc.train.pieces import Piece
from llmhpc.train.settings import Parallel

CHECKPOINTS, LATEST, STATE = "checkpoints", "latest.txt", "state.json"
PARTIAL = ".partial"
LAYOUT = ("dp", "cp", "tp", "pp", "zero_stage")
FORMAT = 2  # of state.json and what it speaks of

log = logging.getLogger(__name__)


def partial_folder(out: Path, step: int, token: str) -> Path:
    """Where the checkpoint of ``step`` grows; ``token`` tells this start from one that may still be dying."""
    return out / CHECKPOINTS / f"{step}{PARTIAL}-{token}"


def write(
    folder: Path, process: int, held: list[Piece], row_of: Callable[[Piece], torch.Tensor]
) -> dict[str, Any]:
    """Write what one process holds; returns size and sha256 of each file."""
    files: dict[str, Any] = {}
    for kind in ("weights", "optimizer"):
        part = [piece for piece in held if piece.key.startswith("weight/") == (kind == "weights")]
        if part:
            path = folder / f"{kind}-{process:05d}.safetensors"
            files[path.name] = pieces.write(path, part, row_of)
    return files


def seal(folder: Path, state: dict[str, Any]) -> None:
    """Check and index what the processes have written to ``folder``, and say in it what it is. ``state`` has files."""
    pieces.write_index(folder)
    index = folder / pieces.INDEX
    seen = {"bytes": index.stat().st_size, "sha256": sha256(index)}
    files = state["files"] | {pieces.INDEX: seen}
    for name, seen in files.items():
        if (size := (folder / name).stat().st_size) != seen["bytes"]:
            raise StageError(f"{folder / name}: {size} bytes, {seen['bytes']} were written")
    write_json(folder / STATE, state | {"format": FORMAT, "files": files})
    for inner in {path.parent for path in files_below(folder)}:
        _sync(inner)


def publish(partial: Path, state: dict[str, Any]) -> None:
    """Seal what has been written to ``partial``, make it the checkpoint of its step and the latest."""
    seal(partial, state)
    final = partial.with_name(str(state["step"]))
    shutil.rmtree(final, ignore_errors=True)  # only a damaged one can be there
    partial.replace(final)
    _sync(final.parent)
    write_json(final.with_name(LATEST), state["step"])


def whole_steps(out: Path) -> list[int]:
    """Steps whose checkpoints have all their files in full length, rising; others are passed over with a warning."""
    return [step for step in _steps(out) if not _passed_over(out / CHECKPOINTS / str(step))]


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


def newest(
    out: Path, *, rank: int, device: torch.device, wanted: Callable[[int], bool] = lambda step: True
) -> tuple[int, str]:
    """The newest ``wanted`` checkpoint of which every byte is as written, 0 if there is none, and a token of this start.

    All processes call this together: each reads its share of the files.
    """
    found: list[Any] = [[], ""]
    if rank == 0:
        remove_partial(out)
        found = [list(filter(wanted, whole_steps(out)))[::-1], secrets.token_hex(4)]
    dist.broadcast_object_list(found, src=0, device=device)
    steps, token = found
    for step in steps:
        if is_sound(out / CHECKPOINTS / str(step), rank=rank, device=device):
            return step, token
    return 0, token


def is_sound(folder: Path, *, rank: int, device: torch.device) -> bool:
    """Whether every byte of a checkpoint is as written. All processes call this together: each reads its share."""
    found = _passed_over(folder, (rank, dist.get_world_size()))
    good = torch.tensor(int(not found), device=device)
    dist.all_reduce(good, op=dist.ReduceOp.MIN)
    return bool(good.item())


def _passed_over(folder: Path, bytes_of: tuple[int, int] | None = None) -> bool:
    if found := fault(folder, bytes_of):
        log.warning("%s is damaged (%s): passed over", folder, found)
    return bool(found)


def fault(folder: Path, bytes_of: tuple[int, int] | None = (0, 1)) -> str:
    """What is wrong with a checkpoint, "" if it is whole.

    Of every n-th file from the k-th on the bytes are read, with ``bytes_of`` (k, n), and else only the length.
    """
    state = read_json(folder / STATE)
    if not state or state.get("format") != FORMAT:
        return f"no {STATE} of this version"
    for number, (name, seen) in enumerate(sorted(state["files"].items())):
        path = folder / name
        if not path.is_file() or path.stat().st_size != seen["bytes"]:
            return name
        mine = bytes_of is not None and number % bytes_of[1] == bytes_of[0]
        if mine and sha256(path) != seen["sha256"]:
            return name
    return ""


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


def _sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
