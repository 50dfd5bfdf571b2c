"""Where the machine code of compiled loops is kept for the next process, also on a file system that many nodes share.

numba's own files are written by rename, but two of them belong together: a rank that reads one of an older source, or
of a node with another CPU, would run it. So each source, CPU and numba has a folder of its own, where all write the same.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding

config: Any = numba.config  # its attributes are made when it is imported
ROOM_BYTES = 1 << 20  # more than the machine code of a file takes


def kept(function: Callable) -> Callable:
    """numba.njit, which reads the machine code from disk where it can, and compiles for each process elsewhere."""
    source = Path(function.__code__.co_filename)
    folder = writable(folders(source))
    if folder is None:
        return numba.njit(function)
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)  # looked at by njit only
    try:
        return numba.njit(cache=True)(function)
    finally:
        config.CACHE_DIR = before


def folders(source: Path) -> list[Path]:
    """NUMBA_CACHE_DIR if it is set; else beside the source, then in the user's cache."""
    parts = (
        source.read_bytes(), numba.__version__, binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
    )  # fmt: skip
    name = f"numba-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR) / name]
    user = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return [source.parent / "__pycache__" / name, Path(user) / "llmhpc" / name]


def writable(candidates: list[Path]) -> Path | None:
    """The first folder that can be made and has room."""
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(ROOM_BYTES))
        except OSError:
            continue
        return folder
    return None
