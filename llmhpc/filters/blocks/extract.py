"""The main text of each page, taken out by an extractor in a child process that may hang or die."""

import importlib
import logging
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import lxml.etree
import trafilatura
from datatrove.data import Document
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.extractors.base import ExtractorSandbox
from datatrove.pipeline.writers.disk_base import DiskWriter
from datatrove.utils.typeshelper import StatHints

from llmhpc.errors import StageError
from llmhpc.filters import Engine, Extraction
from llmhpc.filters.blocks.explained import BECAUSE
from llmhpc.task import check_child

FAILURES_AT_START = 20  # so many pages in a row from the first one: the extractor itself is broken
RESILIENT = "llmhpc.filters.blocks.resilient"
RAISED_BY_A_PAGE = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
    lxml.etree.LxmlError,
)


class Sandbox(ExtractorSandbox):
    """datatrove's, whose child ends when its parent is killed instead of waiting for it for ever."""

    def _worker(self, conn: Connection, extract_fn: Callable[..., object]) -> None:
        # the child has a copy of the parent's end of the pipe: while that is open, the pipe never ends
        self.parent_conn.close()  # type: ignore[attr-defined]  # set before the child is started
        super()._worker(conn, extract_fn)


class MainText(Trafilatura):
    """Replaces each document's HTML by its main text; what gives no text goes to ``removed``.

    trafilatura's own deduplication is off: it drops paragraphs that were seen in earlier pages, so that
    a text would depend on which rank read which pages.
    """

    name = "main text"

    def __init__(self, cfg: Extraction, removed: DiskWriter) -> None:
        super().__init__(
            favour_precision=cfg.favour_precision, timeout=cfg.timeout_s, deduplicate=False
        )
        self.cfg = cfg
        self.removed = removed
        if {Engine.fast, Engine.whole} & {cfg.engine, *cfg.engines.values()}:
            # here, so that a package that is missing fails the rank and not every page
            importlib.import_module(RESILIENT)
        logging.getLogger(trafilatura.__name__).setLevel(logging.CRITICAL)  # a line for every page

    def extract(self, text: str, engine: Engine = Engine.trafilatura) -> str | Exception:
        """The main text, or the error that the page caused: the sandbox raises it on its other side."""
        try:
            if engine is Engine.trafilatura:
                return super().extract(text)
            resilient = importlib.import_module(RESILIENT)
            take = resilient.whole_text if engine is Engine.whole else resilient.main_text
            return take(text)
        except RAISED_BY_A_PAGE as error:
            return error

    def run(
        self, data: Iterator[Document], rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The documents that have text. Raises StageError if the extractor fails on everything."""
        failed = 0
        with Sandbox(timeout=self.timeout) as sandbox, self.removed as removed:
            for doc in data:
                self.stat_update(StatHints.total)
                html = doc.text
                doc.text, reason, why = self._main_text(
                    sandbox, html, self.cfg.engine_of(doc.metadata.get("url", ""))
                )
                if doc.text:
                    self.stat_update(StatHints.forwarded)
                    self.update_doc_stats(doc)
                    yield doc
                    continue
                failed += reason != "empty"
                if failed == FAILURES_AT_START == self.stats[StatHints.total].total:
                    raise StageError(f"extraction failed on the first {failed} pages: {why}")
                self.stat_update(StatHints.dropped, f"dropped_{reason}")
                doc.text = html
                doc.metadata |= {"filter_reason": reason, BECAUSE: why}
                removed.write(doc, rank)
        self._check()

    def _main_text(
        self, sandbox: ExtractorSandbox, html: str, engine: Engine
    ) -> tuple[str, str, str]:
        """The text, and if it is empty: the reason for the counts, and the sentence with the value."""
        try:
            text = sandbox.process_document((html, engine), self.extract)
        except TimeoutError:
            return "", "timeout", f"extraction > {self.timeout:g} s"
        except (EOFError, ConnectionError):
            check_child(sandbox.all_processes[-1].exitcode)
            return "", "crash", "the extractor's process died"
        except RAISED_BY_A_PAGE as error:
            return "", "error", f"{type(error).__name__}: {error}"
        return text or "", "empty", f"main text 0 of {len(html)} characters"

    def _check(self) -> None:
        counts = {name: int(value.total) for name, value in self.stats.stats.items()}
        if counts.get(StatHints.total) and not counts.get(StatHints.forwarded):
            reasons = {k.removeprefix("dropped_"): v for k, v in counts.items() if "dropped_" in k}
            raise StageError(
                f"extraction gave no text for any of {counts['total']} pages: {reasons}"
            )
