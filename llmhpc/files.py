"""Files on a shared filesystem: written under another name, then renamed, so that nobody reads a half."""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLOCK_BYTES = 1 << 20


def write_json(path: Path, record: Any) -> None:
    """Write ``record`` to ``path`` atomically; parent folders are made."""
    _draft(path, record).replace(path)


def create_json(path: Path, record: Any) -> bool:
    """Write ``record`` to ``path`` atomically unless it is there already; True if this call wrote it."""
    draft = _draft(path, record)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _draft(path: Path, record: Any) -> Path:
    """The record in a file beside ``path`` that no other process writes to, safe on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with partial.open("w") as file:
        json.dump(record, file, indent=1, default=str)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    return partial


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """The block under an exclusive lock that ends with this process, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if there is no such file."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def sha256(path: Path) -> str:
    """Hex digest of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below ``folder`` in sorted order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
