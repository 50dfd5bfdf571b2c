"""What a rule takes out of documents that go on: it lies beside the documents that the rule dropped."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter


class WithParts(BaseFilter):
    """A filter whose exclusion writer also gets the parts: records with ``whole`` false in their metadata.

    Their text is the lines that are gone, ``bytes_removed`` the bytes of UTF-8 by which the document is shorter.
    Of what was masked (a judge that is ``private``) the text is not kept.
    """

    judges: list[Any]
    rank = 0

    def run(
        self, data: Iterator[Document], rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The documents that are kept."""
        self.rank = rank
        return super().run(data, rank, world_size)

    def write_part(self, doc: Document, before: str) -> None:
        """Write what the text ``before`` has lost, if it has."""
        if doc.text == before or self.exclusion_writer is None:
            return
        private = any(getattr(judge, "private", False) for judge in self.judges)
        size = len(before.encode()) - len(doc.text.encode())
        part = Document(
            text="" if private else taken_out(before, doc.text),
            id=doc.id,
            metadata=doc.metadata | {"whole": False, "bytes_removed": size},
        )
        self.exclusion_writer.write(part, self.rank)


def taken_out(before: str, after: str) -> str:
    """The lines of ``before`` that ``after`` no longer has. One that was changed stands there as it was."""
    left, gone = Counter(line.strip() for line in after.splitlines()), []
    for line in before.splitlines():
        if left[line.strip()]:
            left[line.strip()] -= 1
        elif line.strip():
            gone.append(line)
    return "\n".join(gone)
