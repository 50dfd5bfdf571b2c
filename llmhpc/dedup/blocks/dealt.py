"""Rows dealt to buckets by a hash, so that equal ones meet in one bucket whoever found them."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from llmhpc.dedup import Method
from llmhpc.dedup.blocks import rows
from llmhpc.dedup.blocks.rows import Sorter

MB = 1 << 20
HELD = 1 << 16  # rows


def bucket_file(work: Path, bucket: int, rank: int) -> Path:
    """The rows that one rank has for one bucket, sorted."""
    return work / "keys" / f"{bucket:04d}" / f"{rank:05d}.rows"


def files_of(work: Path, bucket: int) -> list[Path]:
    """The rows that all ranks have for one bucket."""
    return sorted((work / "keys" / f"{bucket:04d}").glob("*.rows"))


class Dealer(ExitStack):
    """Takes a rank's rows, deals them by column ``key`` and writes each bucket's sorted when the block ends."""

    def __init__(
        self, cfg: Method, out: Path, rank: int, buckets: int, *, columns: int, key: int
    ) -> None:
        super().__init__()
        self.out, self.rank, self.key = out, rank, key
        self.rows = 0
        memory = cfg.memory_mb * MB // buckets
        self._sorters = [Sorter(columns, memory, out / "sorting") for _ in range(buckets)]
        self._held: list[tuple[int, ...]] = []

    def add(self, row: tuple[int, ...]) -> None:
        """Take one row."""
        self._held.append(row)
        if len(self._held) >= HELD:
            self._deal()

    def __exit__(self, *error: object) -> None:
        if not error[0]:
            self._deal()
            for bucket, sorter in enumerate(self._sorters):
                rows.write(bucket_file(self.out, bucket, self.rank), sorter.sorted())
            (self.out / "sorting").rmdir()

    def _deal(self) -> None:
        if self._held:
            table = np.array(self._held, rows.U64)
            self.rows += len(table)
            bucket = table[:, self.key] % np.uint64(len(self._sorters))
            for number, sorter in enumerate(self._sorters):
                sorter.add(table[bucket == number])
            self._held = []
