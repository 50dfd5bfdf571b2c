"""The answers of one task, each on disk for good before the next is waited for.

Every start of the task writes a file of its own and reads those of all, so that two starts at once, also on two
nodes, cannot spoil each other's lines. What a kill left half written at the end of a file is passed over.
"""

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import orjson
from typing_extensions import Self

from llmhpc.generation import Answer

NONE = -1


class Journal:
    """Answers by the number of their request; memory is 20 bytes for each request.

    ``keys``: a number for each request. What was answered to another key at its place is not its answer: an input
    was made again, and differs.
    """

    def __init__(self, folder: Path, keys: np.ndarray) -> None:
        self.folder, self.keys = folder, keys
        self.answered = 0
        self._files: list[BinaryIO] = []
        self._file_of = np.full(len(keys), NONE, np.int32)
        self._offset_of = np.zeros(len(keys), np.int64)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.glob("*.jsonl")):  # the first answer is the one that counts
            self._read(path)
        who = f"{time.time_ns():020d}-{socket.gethostname()}-{os.getpid()}"
        self._files.append((self.folder / f"{who}.jsonl").open("x+b"))
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def __contains__(self, number: int) -> bool:
        return bool(self._file_of[number] != NONE)

    def __getitem__(self, number: int) -> Answer:
        file = self._files[self._file_of[number]]
        file.seek(self._offset_of[number])
        return Answer(*orjson.loads(file.readline())["answer"])

    def add(self, answers: Sequence[tuple[int, Answer]]) -> None:
        """Append answers; they are safe when this returns."""
        mine = self._files[-1]
        offset = mine.seek(0, os.SEEK_END)
        for number, answer in answers:
            entry = {"request": number, "key": int(self.keys[number]), "answer": answer}
            line = orjson.dumps(entry, default=list) + b"\n"
            mine.write(line)
            self._note(number, len(self._files) - 1, offset)
            offset += len(line)
        mine.flush()
        os.fsync(mine.fileno())

    def _read(self, path: Path) -> None:
        file = path.open("rb")
        self._files.append(file)
        offset = 0
        for line in file:
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                return
            if not line.endswith(b"\n"):
                return
            number = entry["request"]
            if number < len(self.keys) and int(self.keys[number]) == entry["key"]:
                self._note(number, len(self._files) - 1, offset)
            offset += len(line)

    def _note(self, number: int, file: int, offset: int) -> None:
        if number not in self:
            self._file_of[number], self._offset_of[number] = file, offset
            self.answered += 1
