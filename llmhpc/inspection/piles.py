"""What a step made of its documents: piles of shards, one for each rule that removed some, and one of those it kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json
from llmhpc.filters import EXTRACT, OF_PAGE
from llmhpc.handoff.artifact import MANIFEST
from llmhpc.task import Task
from llmhpc.tokens.domains import domain_of
from llmhpc.tokens.shards import parse, read_lines, reason_of

KEPT = "kept"


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A document, or what was taken out of one that went on (``whole`` is false), or a page (``text`` is None)."""

    step: str
    fate: str  # kept, or the rule that removed it
    size: int  # bytes of UTF-8, of a page of HTML; of text that was masked the difference, which may be negative
    text: str | None
    id: str = ""
    line: bytes = b""
    whole: bool = True
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def has_text(self) -> bool:
        return self.text is not None and OF_PAGE not in self.metadata

    @property
    def domain(self) -> str:
        return domain_of(self.metadata)

    @property
    def reason(self) -> str:
        return reason_of(self.metadata)


def fates(step: Path) -> list[str]:
    """The rules of a step in the order in which they were applied, then KEPT. Folders nobody counted come first."""
    counts = (read_json(step / MANIFEST) or {}).get("counts", {})
    early, late = counts.get("before_extract", {}), counts.get("rules", {})
    applied = [*early, *[EXTRACT] * bool(counts.get(EXTRACT)), *late]
    folders = {path.name for path in (step / "removed").glob("*")}
    return [*sorted(folders - set(applied)), *applied, KEPT]


def shards(steps: dict[str, Path]) -> list[tuple[str, str, Path]]:
    """(step, fate, file) of everything there is, in a fixed order. Raises ArtifactError for a step with nothing."""
    found: list[tuple[str, str, Path]] = []
    for name, step in sorted(steps.items()):
        before = len(found)
        for fate in fates(step):
            folder = step / ("documents" if fate == KEPT else f"removed/{fate}")
            found += [(name, fate, path) for path in sorted(folder.glob("*.jsonl.zst"))]
        if len(found) == before:
            found += [(name, KEPT, path) for path in sorted((step / "warc").glob("*.warc.gz"))]
        if len(found) == before:
            raise ArtifactError(f"needs.{name}: {step} has no documents/ and no warc/")
    return found


def pieces(steps: dict[str, Path], task: Task) -> Iterator[Piece]:
    """All pieces in this rank's share of the shards."""
    mine = shards(steps)[task.rank :: task.ranks]
    total, done = sum(path.stat().st_size for *_, path in mine) / 1e6, 0.0
    for step, fate, path in mine:
        yield from _pages(step, path) if path.suffix == ".gz" else _texts(step, fate, path)
        done += path.stat().st_size / 1e6
        task.progress(done, total, "MB")


def _texts(step: str, fate: str, path: Path) -> Iterator[Piece]:
    for line in read_lines([path]):
        document = parse(line)
        text, metadata = document["text"], document.get("metadata") or {}
        whole = metadata.get("whole", True)
        # of a page without main text, what is kept to read is HTML
        size = (
            0 if OF_PAGE in metadata else len(text.encode()) if whole else metadata["bytes_removed"]
        )
        yield Piece(
            step=step,
            fate=fate,
            size=size,
            text=text,
            id=document["id"],
            line=line,
            whole=whole,
            metadata=metadata,
        )


def _pages(step: str, path: Path) -> Iterator[Piece]:
    from llmhpc.sources import Reading
    from llmhpc.sources.warc import read_pages

    for page in read_pages([str(path)], 1 << 40, Reading(rank=0, ranks=1)):
        yield Piece(
            step=step, fate=KEPT, size=len(page.body), text=None, metadata={"url": page.url}
        )
