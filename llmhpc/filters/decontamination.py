"""Drop documents that hold pieces of evaluation sets: n-grams of words, from files of the sets."""

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.filters import Rule

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

WORD = re.compile(r"\w+")
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".txt")
SHOWN_CHARACTERS = 200


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """GPT-3's overlap of 13 words (Brown et al., arXiv 2005.14165, appendix C), without case and punctuation.

    A text of an evaluation set that has fewer words is looked for as a whole if it has ``min_words`` (the
    paper's smallest n is 8). The name of a file up to its first dot is the name of the set. In .jsonl and
    .parquet every text of an item counts, or those in ``fields``; in .txt a line is an item.
    """

    kind: str = "decontamination"
    files: list[str] = field(default_factory=list)  # paths or patterns, such as evals/*.jsonl
    fields: list[str] = field(default_factory=list)  # as in [question, answer]; none: all
    ngram_words: int = 13
    min_words: int = 8
    max_hits: int = 0  # of different n-grams; with more a document is dropped

    def __post_init__(self) -> None:
        if not self.files:
            raise ConfigError(f"files=[]: one or more of evaluation sets ({', '.join(SUFFIXES)})")
        at_least(self, "min_words", 1)
        at_least(self, "max_hits", 0)
        at_least(self, "ngram_words", self.min_words)

    def before_launch(self) -> None:
        """Raise ConfigError if a pattern of files finds none, or one of a kind that cannot be read."""
        set_files(self)


def set_files(cfg: Config) -> list[Path]:
    """The files of the evaluation sets in order. Raises ConfigError."""
    found: set[Path] = set()
    for pattern in cfg.files:
        root = Path(pattern).anchor
        paths = [p for p in Path(root).glob(str(Path(pattern).relative_to(root))) if p.is_file()]
        if not paths:
            raise ConfigError(f"files={pattern}: no such file")
        for path in paths:
            if not path.name.endswith(SUFFIXES):
                raise ConfigError(f"files={path}: one of {', '.join(SUFFIXES)}")
        found |= set(paths)
    return sorted(found)


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """A filter that holds every n-gram of the sets in memory: about 150 bytes for a word of them."""
    from datatrove.pipeline.filters.base_filter import BaseFilter

    from llmhpc.filters.blocks.explained import Explained

    index = read_index(cfg)
    sizes, starts = index_shape(index)

    def hits(text: str) -> Iterator[tuple[str, str]]:
        words = WORD.findall(text.lower())
        for place, word in enumerate(words):
            if word in starts:
                for size in sizes:
                    ngram = " ".join(words[place : place + size])
                    if ngram in index:
                        yield ngram, index[ngram]

    class Contaminated(BaseFilter):
        """The first set that is hit, where there are too many hits, is the reason."""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            found: dict[str, str] = {}
            for ngram, name in hits(doc.text):
                found[ngram] = name
                if len(found) > cfg.max_hits:
                    return False, next(iter(found.values()))
            return True

    def explain(doc: "Document", reason: str) -> str:
        found = dict(hits(doc.text))
        first = next(iter(found))[:SHOWN_CHARACTERS]
        names = ", ".join(sorted(set(found.values())))
        return f"n-grams of {names} {len(found)} > {cfg.max_hits}: {first!r}"

    return Explained(Contaminated(), explain, removed)


def read_index(cfg: Config) -> dict[str, str]:
    """n-gram -> the first set that has it. Raises ConfigError for a set without one."""
    index: dict[str, str] = {}
    for path in set_files(cfg):
        name, any_text = path.name.split(".")[0], False
        for text in _texts(path, cfg.fields):
            words = WORD.findall(text.lower())
            size = min(cfg.ngram_words, len(words))
            if size >= cfg.min_words:
                any_text = True
                for place in range(len(words) - size + 1):
                    index.setdefault(" ".join(words[place : place + size]), name)
        if not any_text:
            raise ConfigError(
                f"files={path}: no text of {cfg.min_words} words in it; fields={cfg.fields}"
            )
    return index


def index_shape(index: dict[str, str]) -> tuple[list[int], set[str]]:
    """(the lengths of its n-grams in words, the words that one begins with)."""
    sizes = sorted({ngram.count(" ") + 1 for ngram in index})
    return sizes, {ngram.partition(" ")[0] for ngram in index}


def _texts(path: Path, fields: list[str]) -> Iterator[str]:
    for item in _items(path):
        if isinstance(item, dict) and fields:
            item = [item.get(name) for name in fields]
        yield from _strings(item)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _items(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield from pyarrow.parquet.read_table(path).to_pylist()
        return
    if path.suffix == ".zst":
        import zstandard

        lines = zstandard.open(path, "rt", encoding="utf-8")
    else:
        lines = (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8")
    with lines:
        for number, line in enumerate(lines, 1):
            try:
                yield line if path.suffix == ".txt" else json.loads(line)
            except ValueError as error:
                raise ConfigError(f"files={path}: line {number} is not JSON ({error})") from None
