"""Rows of a data set in a folder: .jsonl, .jsonl.zst and .parquet files, in the layouts that the hub has."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmhpc.errors import ConfigError

SUFFIXES = (".jsonl", ".jsonl.zst", ".parquet")


class Place(NamedTuple):
    """Where a row stands."""

    file: Path
    line: int  # from 1; of a parquet file the number of the row
    number: int  # from 1, counted on over all files of the split


def find(folder: Path, subset: str, split: str) -> list[Path]:
    """The files of one split, in sorted order.

    They lie in <subset>/, data/ or the folder itself, the first that has any, and are called <split>.jsonl,
    <split>-00000-of-00001.parquet or <name>_<split>.jsonl, or whatever they like in a folder <split>/.

    Raises:
        ConfigError: no such folder, no such split, or one name for the splits of two data sets.
    """
    if not folder.is_dir():
        raise ConfigError(f"data_dir={folder}: no such folder")
    places = [folder / (subset or "default"), folder / "data", folder]
    for place in places:
        if found := _of_split(place, split):
            return found
    there = sorted({name for place in places for name in _splits(place)})
    within = f" of subset={subset}" if subset else ""
    raise ConfigError(f"split={split}: no file{within} in {folder}; {_listed(there)}")


def _listed(splits: list[str]) -> str:
    return f"there: {', '.join(splits)}" if splits else f"{' or '.join(SUFFIXES)} is read"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.name.endswith(SUFFIXES) and p.is_file())


def _of_split(folder: Path, split: str) -> list[Path]:
    if found := _files(folder / split):
        return found
    pattern = re.compile(rf"(?:(.*)_)?{re.escape(split)}(?:[-.].*)?")
    named: dict[str, list[Path]] = {}
    for path in _files(folder):
        if match := pattern.fullmatch(_stem(path)):
            named.setdefault(match[1] or "", []).append(path)
    if len(named) > 1 and "" not in named:
        names = " or ".join(f"{name}_{split}" for name in named)
        raise ConfigError(f"split={split}: {folder} has {names}; name the one")
    return named.get("") or [path for paths in named.values() for path in paths]


def _splits(folder: Path) -> Iterator[str]:
    for path in _files(folder):
        yield re.sub(r"-\d+-of-\d+.*", "", _stem(path))
    yield from (path.name for path in folder.glob("*/") if _files(path))


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s))


def read(files: list[Path]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every row with its place. Raises ConfigError for a damaged file, and for a line that is no JSON object."""
    before = 0
    for file in files:
        line = 0
        for line, row in _parquet(file) if file.suffix == ".parquet" else _jsonl(file):
            yield Place(file, line, before + line), row
        before += line


def _parquet(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(file).iter_batches()
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{file}: {str(error).splitlines()[0]}") from None


def _jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import orjson

    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"{file}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{file}:{number}: {line[:40]!r} is no table of fields")
        yield number, row


def _lines(file: Path) -> Iterator[bytes]:
    if file.suffix != ".zst":
        with file.open("rb") as plain:
            yield from plain
        return
    import io

    import zstandard

    try:
        with file.open("rb") as packed:
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            yield from io.BufferedReader(stream)  # type: ignore[type-var]
    except zstandard.ZstdError as error:
        raise ConfigError(f"{file}: {error}") from None
