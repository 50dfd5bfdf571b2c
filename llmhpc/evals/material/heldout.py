"""Documents that tasks are made of: those held out, cut to a budget in the same way for every model, and those trained on."""

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


def read_training(folder: Path | None, budget_bytes: int) -> list[Document]:
    """Documents of every shard of documents/, from the beginning of each, until ``budget_bytes`` are read.

    Raises:
        ArtifactError: there is no folder, no shard, or a line has no id or text.
    """
    shards = sorted(folder.glob("*.jsonl.zst")) if folder else []
    if not shards:
        raise ArtifactError(f"{folder or 'needs.documents'}: no *.jsonl.zst to make questions of")
    found = []
    for shard in shards:
        left = budget_bytes // len(shards)
        for document in _lines(shard):
            left -= len(document.text.encode())
            if left < 0:
                break
            found.append(document)
    return found


def _lines(path: Path) -> Iterator[Document]:
    import zstandard

    with path.open("rb") as file:
        # a shard that was written by several processes is several frames
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        for number, line in enumerate(io.TextIOWrapper(reader, "utf-8"), 1):
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
