"""Before the first step: is one of the processes, or a connection between two, slower than the others?

Large runs lose most to single slow machines, which look healthy otherwise (Jiang et al. 2024, arXiv:2402.15627, who
check nodes and the network in the same way before training).
"""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from llmhpc.files import write_json
from llmhpc.processes import Place

FILE = "health.json"
SLOWER = 1.5  # times the median of the others: beyond what clocks and neighbours on a node do to equal machines
REPEATS = 5  # the fastest counts
ROUNDS = 3  # as many colours as the links of a ring need

Reading = dict[str, Any]


def check(place: Place, out: Path) -> list[str]:
    """Measure, write ``out``/health.json and warn of what is slow; all processes call this together.

    Per process, in TFLOP/s, a matrix product; in GB/s, an exchange with the next process around the ring, both ways;
    and an all-reduce of all of them (its bus bandwidth, 2 (n - 1) / n of the bytes over the time). Returns the
    warnings; process 0 has them.
    """
    mine = {"host": socket.gethostname(), "tflops": _product(place)}
    mine |= {"link_gb_s": _links(place), "all_reduce_gb_s": _all_reduce(place)}
    readings: list[Any] = [None] * place.size
    dist.all_gather_object(readings, mine)
    if place.rank:
        return []
    found = slow(readings)
    write_json(out / FILE, {"processes": readings, "slow": found})
    sys.stderr.write("".join(f"health check: {warning}\n" for warning in found))
    return found


def slow(readings: list[Reading]) -> list[str]:
    """What is below 1 / SLOWER of the median of the others, each with its hosts.

    Links within a node are compared with such links, those between nodes with those.
    """
    found = []
    for rank, one in enumerate(readings):
        others = [other["tflops"] for place, other in enumerate(readings) if place != rank]
        if others and one["tflops"] * SLOWER < (usual := median(others)):
            found.append(
                f"process {rank} on {one['host']} multiplies at {one['tflops']:.3g} TFLOP/s, others at {usual:.3g}"
            )
    for inside in (True, False):
        ends = _ends(readings, inside=inside)
        for number in ends:
            others = [readings[other]["link_gb_s"] for other in ends if other != number]
            speed = readings[number]["link_gb_s"]
            if others and speed * SLOWER < (usual := median(others)):
                found.append(
                    f"{ends[number]} exchange at {speed:.3g} GB/s, others like them at {usual:.3g}"
                )
    return found


def _ends(readings: list[Reading], *, inside: bool) -> dict[int, str]:
    """The links of the ring within nodes, or between nodes: the process that each begins at, and its two ends."""
    size, ends = len(readings), {}
    for first in range(size if size > 2 else size - 1):
        last = (first + 1) % size
        hosts = readings[first]["host"], readings[last]["host"]
        if (hosts[0] == hosts[1]) is inside:
            ends[first] = f"processes {first} on {hosts[0]} and {last} on {hosts[1]}"
    return ends


def _product(place: Place) -> float:
    gpu = place.device.type == "cuda"
    size = 8192 if gpu else 384
    kind = torch.bfloat16 if gpu else torch.float32
    one = torch.ones(size, size, dtype=kind, device=place.device)
    seconds = _fastest(lambda: one @ one, place)
    return 2 * size**3 / seconds / 1e12


def _all_reduce(place: Place) -> float:
    row = _row(place)
    seconds = _fastest(lambda: dist.all_reduce(row), place)
    return row.nbytes * 2 * (place.size - 1) / place.size / seconds / 1e9


def _links(place: Place) -> float | None:
    """GB/s of the link from this process to the next one; None for the second of two, which have one link. Links that share a process are measured one after another."""
    size, rank = place.size, place.rank
    speed: float | None = None
    for turn in range(ROUNDS):
        for first in {rank, (rank - 1) % size}:
            if _turn_of(first, size) == turn:
                other = (first + 1) % size if first == rank else first
                measured = _exchange(place, other)
                speed = measured if first == rank else speed
        dist.barrier()
    return speed


def _turn_of(first: int, size: int) -> int:
    """When the link from ``first`` is measured; of two processes the one link is that from 0."""
    if size == 2:
        return 0 if first == 0 else ROUNDS
    return 2 if size % 2 and first == size - 1 else first % 2


def _exchange(place: Place, other: int) -> float:
    sent, received = _row(place), _row(place)

    def both_ways() -> None:
        ways = [dist.P2POp(dist.isend, sent, other), dist.P2POp(dist.irecv, received, other)]
        for work in dist.batch_isend_irecv(ways):
            work.wait()

    return sent.nbytes / _fastest(both_ways, place) / 1e9


def _row(place: Place) -> torch.Tensor:
    return torch.ones(1 << (26 if place.device.type == "cuda" else 20), device=place.device)


def _fastest(work: Callable[[], object], place: Place) -> float:
    """Seconds; the first time is not counted."""
    times = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        work()
        if place.device.type == "cuda":
            torch.cuda.synchronize(place.device)
        times.append(time.perf_counter() - begun)
    return min(times[1:])
