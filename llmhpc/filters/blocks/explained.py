"""datatrove filters that also say which value dropped a document: a rule's own, or one of datatrove's with a reason."""

from collections.abc import Callable, Iterator

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.writers.disk_base import DiskWriter

from llmhpc.filters.blocks.parts import WithParts

BECAUSE = "dropped_because"


class Explained(WithParts):
    """The decisions of ``judge``; ``explain(document, reason)`` is asked about the dropped ones only.

    datatrove's filters return a reason without the number, and its counters want few different reasons:
    the reason is passed on, the sentence with the number goes to the document's metadata.
    """

    def __init__(
        self,
        judge: BaseFilter,
        explain: Callable[[Document, str], str],
        removed: DiskWriter | None = None,
    ) -> None:
        super().__init__(removed)
        self.judge = judge
        self.judges = [judge]
        self.explain = explain

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """True, or False with datatrove's reason."""
        before = doc.text
        kept, reason = get_filter_result(self.judge.filter(doc))
        if kept:
            self.write_part(doc, before)
            return True
        doc.metadata[BECAUSE] = self.explain(doc, reason)
        return False, reason


class Checked(BaseFilter):
    """Drops a document for the first thing that ``faults(text)`` finds: (reason, the sentence with the number)."""

    judges = ()  # nobody else counts

    def __init__(
        self,
        faults: Callable[[str], Iterator[tuple[str, str]]],
        removed: DiskWriter | None = None,
    ) -> None:
        super().__init__(removed)
        self.faults = faults

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """True, or False with the reason; what lies behind the first fault is not computed."""
        for reason, sentence in self.faults(doc.text):
            doc.metadata[BECAUSE] = sentence
            return False, reason
        return True
