"""Records of steps, one JSON object a line; those of steps that are made again are dropped."""

import json
import os
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file; a last one that a kill cut short is left out, and of no file there are none."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Lines:
    """A file that is written on behind ``resumed_step``; ``kept`` has the records up to there."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        self.kept = [record for record in read_lines(path) if record["step"] <= resumed_step]
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in self.kept))
        partial.replace(path)
        self._file = path.open("a")

    def write(self, record: dict[str, Any]) -> None:
        """One record, which others can read at once."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Force what was written to disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Nothing more is written."""
        self.sync()
        self._file.close()
