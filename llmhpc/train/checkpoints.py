"""Checkpoints that are whole or not there: written under another name, checked, renamed; ``latest.txt`` last.

checkpoints/{step}/model/      nanotron's weights, safetensors
checkpoints/{step}/optimizer/  nanotron's optimizer states
checkpoints/{step}/state.json  step, tokens, where the data go on, layout, and the size of every file
"""

import json
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llmhpc.errors import StageError
from llmhpc.files import files_below, read_json, write_json
from llmhpc.train.engine import Engine
from llmhpc.train.settings import Parallel

# isort: split
from nanotron.serialize.metadata import save_meta
from nanotron.serialize.optimizer import save_optimizer
from nanotron.serialize.weights import save_weights

CHECKPOINTS, LATEST, STATE = "checkpoints", "latest.txt", "state.json"
PARTIAL = ".partial"
LAYOUT = ("dp", "tp", "pp", "zero_stage")

log = logging.getLogger(__name__)


def save(engine: Engine, out: Path, *, step: int, tokens: int, reading: dict[str, Any]) -> Path:
    """Write the checkpoint of ``step``; all processes call this together. ``reading``: where the data go on."""
    final = out / CHECKPOINTS / str(step)
    partial = final.with_name(f"{step}{PARTIAL}")
    if engine.place.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    save_weights(engine.network, engine.context, root_folder=partial)
    save_optimizer(engine.optimizer, engine.context, root_folder=partial)
    save_meta(engine.context, partial, {"last_train_step": step, "consumed_tokens": tokens})
    if engine.dp_rank == 0 or engine.parallel.zero_stage:
        for path in files_below(partial):
            _sync(path)
    dist.barrier()
    if engine.place.rank == 0:
        for path in partial.rglob("*.safetensors"):
            _order_header(path)
        state = {"step": step, "tokens": tokens, "reading": reading}
        _publish(partial, final, state | {"layout": _layout(engine.parallel)})
    dist.barrier()
    return final


def whole_steps(out: Path) -> list[int]:
    """Steps whose checkpoints are whole, rising. One that is damaged is passed over with a warning."""
    folder = out / CHECKPOINTS
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    steps = sorted(int(name) for name in names if name.isdigit())
    return [step for step in steps if _is_whole(folder / str(step))]


def keep_only(out: Path, wanted: Callable[[int], bool]) -> None:
    """Delete the checkpoints of other steps."""
    for path in (out / CHECKPOINTS).iterdir():
        if path.name.isdigit() and not wanted(int(path.name)):
            shutil.rmtree(path)


def remove_partial(out: Path) -> None:
    """Delete what a kill left half written."""
    for path in (out / CHECKPOINTS).glob(f"*{PARTIAL}"):
        shutil.rmtree(path)


def newest(out: Path, *, rank: int, device: torch.device) -> int:
    """The newest whole checkpoint's step, 0 if there is none; process 0 looks and tells the others."""
    step = torch.zeros((), dtype=torch.long, device=device)
    if rank == 0:
        remove_partial(out)
        step += max(whole_steps(out), default=0)
    dist.broadcast(step, src=0)
    return int(step.item())


def reading(checkpoint: Path) -> dict[str, Any]:
    """Where the data go on behind a checkpoint."""
    return read_json(checkpoint / STATE)["reading"]


def check_layout(checkpoint: Path, parallel: Parallel) -> None:
    """Raise StageError unless nanotron can go on from this checkpoint in this layout without loss.

    Another dp is fine as long as optimizer states are whole (zero_stage=0).
    """
    there = read_json(checkpoint / STATE)["layout"]
    here = _layout(parallel)
    free = {"dp"} if not there["zero_stage"] and not here["zero_stage"] else set()
    if any(there[key] != here[key] for key in LAYOUT if key not in free):
        raise StageError(
            f"{checkpoint} was written as {_words(there)}, this run is {_words(here)}: train on in the "
            f"layout of the checkpoint, or remove {checkpoint.parent} to start anew"
        )


def _publish(partial: Path, final: Path, state: dict[str, Any]) -> None:
    sizes = {str(path.relative_to(partial)): path.stat().st_size for path in files_below(partial)}
    write_json(partial / STATE, state | {"files": sizes})
    for folder in {path.parent for path in files_below(partial)}:
        _sync(folder)
    shutil.rmtree(final, ignore_errors=True)  # only a damaged one can be there
    partial.replace(final)
    _sync(final.parent)
    write_json(final.with_name(LATEST), state["step"])


def _is_whole(folder: Path) -> bool:
    state = read_json(folder / STATE)
    sizes: dict[str, int] = state["files"] if state else {}
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            log.warning("%s is damaged (%s): passed over", folder, name)
            return False
    return bool(sizes)


def _order_header(path: Path) -> None:
    """Sort the metadata of a safetensors file, which are in the order of a hash that differs from process to process."""
    with path.open("r+b") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:
            raise StageError(f"{path}: its header cannot be written in order")
        file.seek(8)
        file.write(text.ljust(size))
        os.fsync(file.fileno())


def _layout(parallel: Parallel) -> dict[str, Any]:
    return {key: getattr(parallel, key) for key in LAYOUT}


def _words(layout: dict[str, Any]) -> str:
    return " ".join(f"{key}={layout[key]}" for key in LAYOUT)


def _sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
