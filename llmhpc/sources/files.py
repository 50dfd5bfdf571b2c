"""Files of a source: paths, globs, any address that fsspec opens; and their settings, which several sources share."""

from dataclasses import dataclass, field
from pathlib import Path

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Source, enough

WILDCARDS = set("*?[")
MB = 1_000_000


@dataclass(kw_only=True, slots=True)
class Files(Source):
    """Where the files are."""

    paths: list[str] = field(default_factory=list)  # files or globs, local or scheme://
    max_record_mb: float = 50.0  # a larger record is passed over

    def __post_init__(self) -> None:
        at_least(self, "max_record_mb", 0.001)

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if a local path is not there, or there are fewer files than ranks."""
        if not self.paths:
            raise ConfigError("source.paths=[]: one path, glob or address or more")
        local = [path for path in self.paths if "://" not in path]
        found = {file for path in local for file in _local(path)}
        if len(local) == len(self.paths):
            enough(len(found), ranks, "files in source.paths")

    def expected_bytes(self) -> int:
        """The size of the local files."""
        local = [path for path in self.paths if "://" not in path]
        return sum(Path(f).stat().st_size for path in local for f in _local(path))

    def max_bytes(self) -> int:
        """The bound of a record."""
        return int(self.max_record_mb * MB)


def find(paths: list[str]) -> list[str]:
    """Every file in sorted order. Raises ConfigError for a local path, StageError for an address without any."""
    return sorted({file for path in paths for file in _found(path)})


def _found(path: str) -> list[str]:
    if "://" not in path:
        return _local(path)
    import fsspec

    fs, inside = fsspec.core.url_to_fs(path)
    if not WILDCARDS & set(path):
        return [path]
    found = [fs.unstrip_protocol(file) for file in sorted(fs.glob(inside))]
    if not found:
        raise StageError(f"source.paths={path}: no file there")
    return found


def _local(path: str) -> list[str]:
    """Absolute paths of a local path or glob. Raises ConfigError if there is none."""
    if WILDCARDS & set(path):
        import glob

        found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - ** as users write it
    else:
        found = [path] if Path(path).is_file() else []
    if not found:
        raise ConfigError(f"source.paths={path}: no such file; a file, a glob or an address")
    return [str(Path(file).absolute()) for file in found]
