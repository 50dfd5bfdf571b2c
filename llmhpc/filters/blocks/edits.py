"""A filter that changes the text of documents, and counts what it took out."""

from abc import abstractmethod
from collections import Counter

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter


class Editor(BaseFilter):
    """Replaces ``doc.text`` by what ``edit`` makes of it, unless that drops the document.

    ``edit-documents`` and ``edit-characters removed`` count those that went on with another text.
    """

    private = False  # True: what is taken out must not be kept

    @abstractmethod
    def edit(self, text: str, counts: Counter[str]) -> tuple[str, str]:
        """(the new text, the reason to drop it or ""); names in ``counts`` begin with line- or edit-."""

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """True, or False with the reason; then the text stays as it came."""
        counts: Counter[str] = Counter()
        text, reason = self.edit(doc.text, counts)
        if reason:
            return False, reason
        if text != doc.text:
            counts["edit-documents"] = 1
            counts["edit-characters removed"] = len(doc.text) - len(text)
            doc.text = text
        for name, number in counts.items():
            self.stat_update(name, value=number)
        return True
