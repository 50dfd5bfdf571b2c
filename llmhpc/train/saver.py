"""Checkpoints in the background: training waits only until the numbers are copied, and that not before it changes them."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llmhpc.files import read_json, write_json
from llmhpc.train import checkpoints
from llmhpc.train.engine import Engine

LOOK_EVERY_S = 0.05
DONE = ".done.json"  # beside a process's files: they are on disk


class Saver:
    """Writes the checkpoints of one process; process 0 publishes each when all have written theirs.

    Nothing here is a collective: processes need not be in step. ``token`` is that of ``checkpoints.newest``.
    """

    def __init__(self, engine: Engine, out: Path, token: str) -> None:
        self.engine, self.out, self.token = engine, out, token
        self.stalled_s = 0.0  # that training has waited
        self._thread: threading.Thread | None = None
        self._copied = threading.Event()
        self._error: BaseException | None = None
        self._buffers: dict[str, torch.Tensor] = {}
        self._stream = torch.cuda.Stream() if engine.place.device.type == "cuda" else None

    def start(self, state: dict[str, Any], then: Callable[[float], None]) -> None:
        """Begin to save; what was begun before is finished first.

        ``state`` has the step. Process 0 calls ``then`` with the seconds that it took, in another thread, when the
        checkpoint is there.
        """
        self.wait()
        begun = time.monotonic()
        self._copied.clear()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):  # beside the next step's passes
                self._copy()
        self._thread = threading.Thread(target=self._run, args=(state, then), daemon=True)
        self._thread.start()
        self.stalled_s += time.monotonic() - begun

    def before_update(self) -> None:
        """Call before weights change. Raises what went wrong in the background."""
        if self._thread is None:
            return
        begun = time.monotonic()
        self._copied.wait()
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
        self.stalled_s += time.monotonic() - begun
        if not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being saved. Raises what went wrong."""
        if self._thread is not None:
            begun = time.monotonic()
            self._thread.join()
            self._thread = None
            self.stalled_s += time.monotonic() - begun
        if self._error is not None:
            raise self._error

    def _run(self, state: dict[str, Any], then: Callable[[float], None]) -> None:
        begun = time.monotonic()
        try:
            if self._stream is None:
                self._copy()
            else:
                self._stream.synchronize()
            partial = checkpoints.partial_folder(self.out, state["step"], self.token)
            partial.mkdir(parents=True, exist_ok=True)
            self._write(partial)
            if self.engine.place.rank == 0:
                checkpoints.publish(partial, state | {"files": self._gather(partial)})
                then(time.monotonic() - begun)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that trains
            self._error = error
            self._copied.set()

    def _copy(self) -> None:
        """Copies of the rows that this process writes; on CUDA in page-locked memory, which is kept: it is slow to get."""
        pinned = self._stream is not None
        for piece in self.engine.optimizer.pieces():
            if not piece.written:
                continue
            if piece.key not in self._buffers:
                self._buffers[piece.key] = torch.empty(
                    piece.row.shape, dtype=piece.row.dtype, pin_memory=pinned
                )
            self._buffers[piece.key].copy_(piece.row.detach(), non_blocking=pinned)
        self._copied.set()

    def _write(self, partial: Path) -> None:
        rank = self.engine.place.rank
        held = [piece for piece in self.engine.optimizer.pieces() if piece.written]
        files = checkpoints.write(partial, rank, held, lambda piece: self._buffers[piece.key])
        if self._stream is None:
            self._buffers.clear()
        write_json(partial / f"{rank:05d}{DONE}", files)

    def _gather(self, partial: Path) -> dict[str, Any]:
        """What all processes have written, when they have."""
        files: dict[str, Any] = {}
        for rank in range(self.engine.place.size):
            card = partial / f"{rank:05d}{DONE}"
            while (written := read_json(card)) is None:
                time.sleep(LOOK_EVERY_S)
            files |= written
            card.unlink()
        return dict(sorted(files.items()))
