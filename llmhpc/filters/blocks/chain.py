"""The filter stage of one rank: pages and main text, or texts; rules in order, documents and what was removed."""

import importlib
from collections import Counter, deque
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.writers import JsonlWriter

from llmhpc.errors import ConfigError, StageError
from llmhpc.filters import EXTRACT, OF_PAGE, Extraction, Rule
from llmhpc.filters.blocks.extract import MainText
from llmhpc.filters.blocks.lenient import Lenient
from llmhpc.filters.blocks.pages import Pages
from llmhpc.filters.blocks.texts import Texts
from llmhpc.task import Task

FILE = "${rank}.jsonl"  # datatrove writes rank 3 to 00003.jsonl.zst
EXCERPT_CHARACTERS = 2000  # of a page that removed/ keeps; its WARC offset leads to the rest


def filter_documents(
    step: Path, extraction: Extraction, rules: dict[str, Rule], out: Path, task: Task
) -> dict[str, Any]:
    """Write documents/ and removed/<rule>/ below ``out``; returns counts per rule and reason.

    ``step`` has warc/, whose main text is taken out behind the rules that do without it, or documents/, which
    are text. Raises StageError if a block's package is missing or the extraction fails on everything,
    ConfigError if there are more ranks than files.
    """
    try:
        reader = _reader(step, task)
        has_pages = isinstance(reader, Pages)
        early = {name: rule for name, rule in rules.items() if has_pages and rule.before_extract}
        blocks: dict[str, Any] = {
            name: _block(name, rule, _removed(out, name, EXCERPT_CHARACTERS))
            for name, rule in early.items()
        }
        if has_pages:
            blocks[EXTRACT] = MainText(extraction, _removed(out, EXTRACT, EXCERPT_CHARACTERS))
        blocks |= {
            name: _block(name, rule, _removed(out, name))
            for name, rule in rules.items()
            if name not in early
        }
    except ImportError as error:
        raise StageError(f"a package of the filter stage is missing: {error}") from error
    writer = JsonlWriter(str(out / "documents"), FILE, compression="zstd")

    stream: Any = None
    for block in [reader, *blocks.values(), writer]:
        stream = block.run(stream, task.rank, task.ranks)
    deque(stream, maxlen=0)
    counts = {name: _counts(block) for name, block in blocks.items()}
    before = {name: counts.pop(name) for name in early}
    for table in before.values():
        del table["characters"]  # of HTML
    return {
        "documents_in": _total(next(iter(blocks.values()), reader), "total"),
        "documents": _total(writer, "total"),
        "bytes_in": reader.bytes_read,
        "characters": _total(writer, "doc_len"),
        **({"before_extract": before} if before else {}),
        **({EXTRACT: counts.pop(EXTRACT)} if has_pages else {}),
        "rules": counts,
    }


def _reader(step: Path, task: Task) -> Pages | Texts:
    """What gives the documents: a reader of texts, or of pages."""
    folder, pattern = (step / name for name in ("warc", "documents")), ("*.warc.gz", "*.jsonl.zst")
    pages, texts = (len(list(f.glob(p))) for f, p in zip(folder, pattern, strict=True))
    files, what = (pages, "pages") if pages else (texts, "texts")
    if task.ranks > files:
        raise ConfigError(
            f"ranks={task.ranks}: only {files} files of {what} to share; {files} or fewer"
        )
    return Pages(step / "warc", partial(task.progress)) if pages else Texts(step, task.progress)


def _block(name: str, rule: Rule, removed: JsonlWriter) -> BaseFilter:
    build = importlib.import_module(f"llmhpc.filters.{rule.kind}").build
    if rule.where or rule.keep_share:
        return Lenient(name, rule, build, removed)
    return build(rule, removed)


def _removed(out: Path, name: str, characters: int | None = None) -> JsonlWriter:
    """Writes dropped documents and parts, up to so many characters, to removed/<name>/ with the rule's name on each."""

    def adapter(writer: JsonlWriter, document: Document) -> dict[str, Any]:
        more: dict[str, Any] = {"dropped_by": name}
        if characters is not None:
            more[OF_PAGE] = len(document.text)
        return {
            "text": document.text[:characters],
            "id": document.id,
            "metadata": document.metadata | more,
        }

    return JsonlWriter(str(out / "removed" / name), FILE, compression="zstd", adapter=adapter)


def _total(block: PipelineStep, name: str) -> int:
    return int(block.stats.stats[name].total) if name in block.stats.stats else 0


def _counts(block: PipelineStep) -> dict[str, Any]:
    """Documents in, kept and dropped, by reason; characters kept; what a rule took out of documents."""
    counts: dict[str, Any] = {
        "in": _total(block, "total"),
        "kept": _total(block, "forwarded"),
        "dropped": _total(block, "dropped"),
        "characters": _total(block, "doc_len"),
        "reasons": _named([block], "dropped_"),
    }
    judges = getattr(block, "judges", [])
    more = {"spared": _named([block], "spared_")}
    more |= {"lines": _named(judges, "line-"), "edits": _named(judges, "edit-")}
    return counts | {name: table for name, table in more.items() if table}


def _named(blocks: list[PipelineStep], prefix: str) -> dict[str, int]:
    found: Counter[str] = Counter()
    for block in blocks:
        for name, stat in block.stats.stats.items():
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] += int(stat.total)
    return dict(sorted(found.items()))
