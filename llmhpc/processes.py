"""One process of a step finds the others: started by torchrun, by submitit or by Slurm's srun."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from llmhpc.config import Resources
from llmhpc.errors import PeerLostError, StageError
from llmhpc.files import read_json, write_json

LAUNCHERS = {  # who started us: global rank, number of processes, rank within the node
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "submitit": ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}
ATTEMPT = {  # what tells one start from the next; the same for all processes of a start
    "submitit": ("SUBMITIT_LOCAL_JOB_ID",),
    "slurm": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"),
}
LOST = ("onnection closed", "onnection reset", "roken pipe", "imed out", "onnection refused")
MEETING_S = 300
POLL_S = 0.1
COLLECTIVE_MIN = 30


@dataclass(frozen=True)
class Place:
    """Which process this is, of how many, and the device that it computes on."""

    rank: int
    size: int
    local_rank: int
    device: torch.device
    launcher: str = ""
    store: dist.Store | None = field(default=None, compare=False, repr=False)  # of all processes


def find_place(processes: int, resources: Resources, environment: Mapping[str, str]) -> Place:
    """The place that the launcher's variables name; the only one there is if ``processes`` is 1.

    Raises StageError when no launcher, or one of another size, started this process.
    """
    rank = local_rank = 0
    launcher = ""
    if processes > 1:
        launcher = next((n for n, names in LAUNCHERS.items() if names[0] in environment), "")
        if not launcher:
            raise StageError(
                f"this step needs {processes} processes and this is one alone: start it with srun, or "
                f"torchrun --nproc_per_node={processes} -m llmhpc.step DIR"
            )
        rank, size, local_rank = (int(environment.get(name, 0)) for name in LAUNCHERS[launcher])
        if size != processes:
            raise StageError(
                f"{launcher} started {size} processes, the layout of this step has {processes}"
            )
    return Place(rank, processes, local_rank, _device(resources, local_rank), launcher)


@contextmanager
def joined(processes: int, resources: Resources, folder: Path, worlds: int = 1) -> Iterator[Place]:
    """Connect to the other processes, and leave them at the end; ``folder`` is one that all of them see.

    Environment variables and threads are set for the work and put back, since a stage after this one
    may run in the same process.

    Args:
        processes: of the step.
        resources: of the step: nodes, threads of a process, GPUs.
        folder: where process 0 announces itself.
        worlds: worlds of torch.distributed, each of as many processes with ranks in a row. Processes of
            different worlds have nothing in common but ``Place.store``.
    """
    before, threads = dict(os.environ), torch.get_num_threads()
    place = find_place(processes, resources, before)
    size = processes // worlds
    names = zip(LAUNCHERS["torchrun"], (place.rank % size, size, place.local_rank), strict=True)
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # nanotron's tensor parallelism relies on it
    torch.set_num_threads(resources.cpus)
    try:
        store = _store(place, resources.nodes, folder)
        os.environ.update({name: str(value) for name, value in names})
        _connect(place, size, store)
        yield replace(place, store=store)
    except RuntimeError as error:
        if place.size > 1 and _is_of_a_lost_peer(error):
            raise PeerLostError(
                f"process {place.rank} lost another one: {_first_line(error)}"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(before)


def _is_of_a_lost_peer(error: RuntimeError) -> bool:
    """True for what NCCL and gloo raise when the other end of a connection has gone; gloo only says so in words."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    text = str(error)
    return "gloo" in text and any(words in text for words in LOST)


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[0][:200]


def _device(resources: Resources, local_rank: int) -> torch.device:
    if not resources.gpus_per_node:
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise StageError(
            f"resources.gpus_per_node={resources.gpus_per_node}, but this process sees "
            f"{torch.cuda.device_count()} CUDA devices and needs number {local_rank}"
        )
    return torch.device("cuda", local_rank)


def _store(place: Place, nodes: int, folder: Path) -> dist.Store:
    """The key-value store that all processes of the step have in common."""
    if place.size == 1:
        return dist.HashStore()
    if place.launcher == "torchrun":
        return next(dist.rendezvous("env://"))[0]
    store = _meet(place, nodes, folder)
    _call_the_roll(place, store)
    return store


def _connect(place: Place, size: int, store: dist.Store) -> None:
    """Make a world of this process and those beside it, ``size`` altogether."""
    world, rank = divmod(place.rank, size)
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
    dist.init_process_group(
        backend="nccl" if place.device.type == "cuda" else "gloo",
        store=dist.PrefixStore(f"world {world}", store),
        rank=rank,
        world_size=size,
        timeout=timedelta(minutes=COLLECTIVE_MIN),
    )


def _meet(place: Place, nodes: int, folder: Path) -> dist.Store:
    """A key-value store on process 0, at a port that the system picks and a file announces.

    No port is derived or guessed, so any number of runs can start at once on a machine.
    """
    values = (os.environ.get(name, "0") for name in ATTEMPT[place.launcher])
    card = folder / f"rendezvous-{'-'.join(values)}.json"
    if place.rank == 0:
        for stale in folder.glob("rendezvous-*.json"):
            stale.unlink()
        host = "127.0.0.1" if nodes == 1 else socket.gethostname()
        store = dist.TCPStore(host, 0, place.size, is_master=True, wait_for_workers=False)
        write_json(card, {"host": host, "port": store.port})
        return store
    deadline = time.monotonic() + MEETING_S
    while (address := read_json(card)) is None:
        if time.monotonic() > deadline:
            raise PeerLostError(f"process 0 did not write {card} within {MEETING_S} s")
        time.sleep(POLL_S)
    return dist.TCPStore(address["host"], address["port"], place.size, is_master=False)


def _call_the_roll(place: Place, store: dist.Store) -> None:
    """Wait until every process is there: one that was killed before does not keep the others for half an hour."""
    if store.add("came", 1) == place.size:
        store.set("all came", "")
    deadline = time.monotonic() + MEETING_S
    while not store.check(["all came"]):
        if time.monotonic() > deadline:
            came = store.add("came", 0)
            raise PeerLostError(f"{came} of {place.size} processes came within {MEETING_S} s")
        time.sleep(POLL_S)
