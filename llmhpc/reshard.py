"""A checkpoint cut for another layout: python -m llmhpc.reshard CHECKPOINT OUT [dp=8] [cp=2] [tp=2] [pp=4] [zero_stage=1].

Training goes on from any checkpoint in any layout without this: each process puts together what it needs. A checkpoint
cut beforehand is read faster, as each process reads only its own rows.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from llmhpc.errors import ArtifactError, ConfigError, denied_in_one_line
from llmhpc.models import Model
from llmhpc.planning.registry import revive
from llmhpc.train.settings import Parallel, Precision, Schedule

if TYPE_CHECKING:
    from llmhpc.processes import Place

KEYS = ("dp", "cp", "tp", "pp", "zero_stage")


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 130 if interrupted, 2 if the call is wrong or the checkpoint is not whole."""
    options = _parser().parse_args(arguments)
    try:
        reshard(options.checkpoint, options.out, _parallel(options.layout))
    except (ConfigError, ArtifactError) as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    else:
        return 0


def reshard(checkpoint: Path, out: Path, parallel: Parallel) -> None:
    """Write ``checkpoint`` as the processes of ``parallel`` would have, to ``out``, which must not be there.

    One process does it; it holds one whole tensor at a time. Raises ConfigError and ArtifactError before it writes.
    """
    from llmhpc.train import checkpoints
    from llmhpc.train.engine import Engine
    from llmhpc.train.pieces import Shards

    if out.exists():
        raise ConfigError(f"{out}: there is something already")
    if fault := checkpoints.fault(checkpoint):
        raise ArtifactError(f"{checkpoint} is not a whole checkpoint ({fault})")
    state = checkpoints.state_of(checkpoint)
    model: Model = revive(Model, state["model"])
    model.check_split(tp=parallel.tp, pp=parallel.pp)
    shards = Shards(checkpoint)
    precision = Precision.bfloat16 if shards.names("master") else Precision.float32
    schedule = Schedule(global_batch=parallel.dp, precision=precision)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files: dict[str, Any] = {}
    console = Console(stderr=True)
    ranks = range(parallel.processes())
    for rank in track(
        ranks, "processes", console=console, transient=True, disable=not console.is_terminal
    ):
        with _alone(rank, parallel.processes()) as place:
            engine = Engine(model, parallel, schedule, seed=0, place=place)
            held = [piece for piece in engine.optimizer.pieces() if piece.written]
        files |= checkpoints.write(
            partial, rank, held, lambda piece: shards.row(piece.key, piece.cut)
        )
    layout = checkpoints.layout(parallel)
    checkpoints.seal(partial, state | {"layout": layout, "files": dict(sorted(files.items()))})
    partial.replace(out)


@contextmanager
def _alone(rank: int, size: int) -> Iterator["Place"]:
    """Process ``rank`` of ``size`` without the others and without memory: what it would hold can be asked for.

    torch's own back end for such a purpose; nothing is sent, and tensors on the device meta have no numbers.
    """
    import torch
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from llmhpc.processes import Place

    before = dict(os.environ)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": "0"}
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        yield Place(rank, size, 0, torch.device("meta"))
    finally:
        dist.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)


def _parallel(words: list[str]) -> Parallel:
    values: dict[str, int] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in KEYS or not value.isdecimal():
            raise ConfigError(f"{word}: one of {', '.join(f'{key}=NUMBER' for key in KEYS)}")
        values[key] = int(value)
    return Parallel(micro_batch=1, **values)  # type: ignore[arg-type]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmhpc.reshard", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="as in runs/train-…/checkpoints/100")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("layout", nargs="*", help="what is not said is 1, zero_stage 0")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
