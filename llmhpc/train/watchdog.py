"""A training that hangs ends: when no step has ended for so long, every process says where it is, and why it stops."""

import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from typing_extensions import Self

from llmhpc.errors import HangError
from llmhpc.files import read_json, write_json
from llmhpc.processes import Place

LOOK_EVERY_S = 0.5
SUSPENDED_S = (
    30  # a thread that looks this late was stopped, with the process or the node: nothing hangs
)
GATHER_S = 5  # for the others to say where they are; they notice at the same time, nearly
STDERR = 2  # the descriptor: sys.stderr may be an object that is no file
OWN = str(Path(__file__).parents[1])


class Watchdog:
    """A thread of one process; call ``beat`` when a step has ended.

    When ``timeout_s`` go by without one (0: never), all stacks of the process are dumped to its log, where it is to
    ``folder`` (which all processes see, and no other start uses), and the process ends after ``end`` has been given a
    HangError that says who waits where, and who says nothing. A process that is stuck cannot raise it.
    """

    def __init__(
        self, timeout_s: float, folder: Path, place: Place, end: Callable[[HangError], None]
    ) -> None:
        self.timeout_s, self.folder, self.place, self.end = timeout_s, folder, place, end
        self._main = threading.get_ident()
        self._step, self._last = 0, time.monotonic()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        if self.timeout_s:
            self._last = time.monotonic()
            threading.Thread(target=self._run, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def beat(self, step: int) -> None:
        """Step ``step`` has ended."""
        self._step, self._last = step, time.monotonic()

    def _run(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(min(LOOK_EVERY_S, self.timeout_s / 10)):
            before, looked = looked, time.monotonic()
            if looked - before > SUSPENDED_S:
                self._last += looked - before
            if looked - self._last > self.timeout_s:
                self._give_up()

    def _give_up(self) -> None:
        note = {"where": where(sys._current_frames()[self._main]), "host": socket.gethostname()}
        write_json(self.folder / f"{self.place.rank:05d}.json", note)
        error = HangError(
            f"no step has ended for {self.timeout_s:g} s (hang_timeout_min), after step {self._step}: "
            + described(self._gather(), self.place.size)
        )
        sys.stderr.write(f"process {self.place.rank}: {error}\n")
        faulthandler.dump_traceback(file=STDERR, all_threads=True)
        sys.stderr.flush()
        if self._closed.is_set():
            return
        self.end(error)
        if self.place.rank:  # process 0 has the record: it is to end first
            time.sleep(GATHER_S)
        os._exit(1)

    def _gather(self) -> dict[int, dict[str, Any]]:
        """What the processes have said, by rank; those that say nothing are not waited for long."""
        until = time.monotonic() + GATHER_S
        notes: dict[int, dict[str, Any]] = {}
        while len(notes) < self.place.size and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
            notes = {int(path.stem): read_json(path) for path in self.folder.glob("[0-9]*.json")}
        return notes


def where(frame: FrameType | None) -> str:
    """The innermost line of this package in a stack, and the function that it is in."""
    inner = frame
    while frame is not None and not frame.f_code.co_filename.startswith(OWN):
        frame = frame.f_back
    frame = frame or inner
    if frame is None:
        return "nowhere"
    code = frame.f_code
    return f"{code.co_name} ({Path(code.co_filename).name}:{frame.f_lineno})"


def described(notes: dict[int, dict[str, Any]], size: int) -> str:
    """Who says nothing, and who waits where, those at the same place together."""
    silent = [rank for rank in range(size) if rank not in notes]
    places: dict[str, list[int]] = {}
    for rank in sorted(notes):
        places.setdefault(notes[rank]["where"], []).append(rank)
    said = [f"process {_listed(ranks)} in {place}" for place, ranks in places.items()]
    return "; ".join([f"process {_listed(silent)} says nothing"] * bool(silent) + said)


def _listed(ranks: list[int], shown: int = 8) -> str:
    more = f" and {len(ranks) - shown} more" if len(ranks) > shown else ""
    return ", ".join(map(str, ranks[:shown])) + more
