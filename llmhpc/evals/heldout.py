"""The held-out documents: read, and cut to a budget in the same way for every model."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from llmhpc.errors import ArtifactError


class Document(NamedTuple):
    """One held-out document."""

    id: str
    text: str
    domain: str = ""  # host of its address, where it has one


def read_documents(path: Path | None) -> list[Document]:
    """Every document of a ``.jsonl.zst`` file in the order of the file.

    Raises:
        ArtifactError: the file is not there, holds no document, or a line has no id or text.
    """
    if path is None or not path.is_file():
        raise ArtifactError(f"{path}: not there; the tokenize step writes the held-out documents")
    documents = list(_lines(path))
    if not documents:
        raise ArtifactError(f"{path}: no document; hold out more documents in the tokenize step")
    return documents


def _lines(path: Path) -> Iterator[Document]:
    import zstandard

    with path.open("rb") as file:
        text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        for number, line in enumerate(text, 1):
            record = json.loads(line)
            if not (isinstance(record.get("text"), str) and record.get("id")):
                raise ArtifactError(f"{path}:{number}: needs a text and an id")
            yield Document(str(record["id"]), record["text"], _domain(record))


def _domain(record: dict[str, Any]) -> str:
    return urlsplit(str(record.get("metadata", {}).get("url", ""))).hostname or ""


def cut_to_budget(documents: list[Document], budget_bytes: int) -> list[Document]:
    """The documents from their start up to one common length that keeps all below ``budget_bytes``.

    The length is the largest c with sum(min(length, c)) <= budget; a document is cut between characters.
    """
    lengths = sorted(len(document.text.encode()) for document in documents)
    limit, left = lengths[-1], budget_bytes
    for position, length in enumerate(lengths):
        share = left // (len(lengths) - position)
        if length > share:
            limit = share
            break
        left -= length
    return [
        document._replace(text=document.text.encode()[:limit].decode(errors="ignore"))
        for document in documents
    ]
