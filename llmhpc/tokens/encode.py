"""Turns documents into token files and a table of the documents: every rank encodes a stretch of the shards, one task joins them.

datatrove's DocumentTokenizer is not used: it deals shards out in turn, which breaks the order of
shuffled documents; it has no held-out split; and it takes a special token spelt out in a text for the
real one, so that a page about tokenizers would end documents that go on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tokenizers import Tokenizer

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json, write_json
from llmhpc.tokens import EOS
from llmhpc.tokens.documents import DocumentsWriter, batches, row_of
from llmhpc.tokens.folder import named_token
from llmhpc.tokens.ids import Ids
from llmhpc.tokens.reader import DTYPES, ENDS_DTYPE, INDEX, TokenFiles, index_of
from llmhpc.tokens.shards import (
    REPEAT,
    Numbered,
    Progress,
    line_writer,
    numbered_lines,
    parse,
    place,
    read_lines,
    silent,
)

BATCH_BYTES = 1 << 20  # of documents handed to the tokenizer's threads at a time
NO_LIMIT = 1 << 62
SPLITS = ("train", "heldout")
HELDOUT_TEXT = "documents.jsonl.zst"


@dataclass(kw_only=True, slots=True, frozen=True)
class Encoder:
    """A tokenizer opened for encoding, and the type its token ids are stored in."""

    tokenizer: Tokenizer
    eos_id: int
    vocab_size: int
    dtype: np.dtype
    ids: Ids

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """The ids of each text followed by eos. A special token spelt out in a text is ordinary text."""
        return self.ids.encode(texts, self.eos_id)


def open_encoder(step: Path, dtype: str) -> Encoder:
    """The tokenizer of a sealed tokenizer step; ``dtype`` is "auto", "uint16" or "uint32".

    Raises ArtifactError if there is no tokenizer, it has no eos, or ``dtype`` cannot hold its ids.
    """
    path = step / "tokenizer" / "tokenizer.json"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; a sealed tokenizer step has one")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    eos = named_token(path.parent, "eos_token") or EOS
    if (eos_id := tokenizer.token_to_id(eos)) is None:
        raise ArtifactError(f"{path}: has no token {eos}, which ends documents")
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    smallest = "uint16" if vocab_size <= 1 << 16 else "uint32"
    chosen = smallest if dtype == "auto" else dtype
    if chosen < smallest:
        raise ArtifactError(
            f"dtype={dtype}: holds ids below 65536, {path} has {vocab_size}; auto or uint32"
        )
    return Encoder(
        tokenizer=tokenizer,
        eos_id=eos_id,
        vocab_size=vocab_size,
        dtype=DTYPES[chosen],
        ids=Ids(tokenizer, DTYPES[chosen]),
    )


class SplitWriter:
    """Writes one split as ``folder``/00000.ds, 00000.ds.index and so on, ``limit`` tokens a file at most.

    Documents are not cut: one that is longer than ``limit`` has a file to itself.
    """

    def __init__(self, folder: Path, limit: int = NO_LIMIT) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.tokens = 0
        self.documents = 0
        self.paths: list[Path] = []
        self._folder = folder
        self._limit = limit
        self._filled = 0  # tokens in the open file
        self._files: list[BinaryIO] = []  # its tokens and its ends

    def add(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        """Append documents: shape (n,) their tokens in a row, and uint64 the end of each in that row."""
        written, first = 0, 0  # tokens, documents
        while first < len(ends):
            room = np.uint64(written + self._limit - self._filled)
            until = int(np.searchsorted(ends, room, side="right"))
            if until <= first and self._filled:
                self.close()
                continue
            until = max(until, first + 1)
            stop = int(ends[until - 1])
            self._append(tokens[written:stop], ends[first:until] - np.uint64(written))
            written, first = stop, until

    def _append(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        if not self._files:
            path = self._folder / f"{len(self.paths):05d}.ds"
            self._files = [path.open("wb"), index_of(path).open("wb")]
            self.paths.append(path)
        rows, marks = self._files
        rows.write(tokens.data)
        marks.write((ends + np.uint64(self._filled)).astype(ENDS_DTYPE).data)
        self._filled += len(tokens)
        self.tokens += len(tokens)
        self.documents += len(ends)

    def close(self) -> None:
        """End the open file; a further document would begin the next one."""
        for file in self._files:
            file.close()
        self._files, self._filled = [], 0


def encode(
    shards: list[Path],
    encoder: Encoder,
    heldout_fraction: float,
    out: Path,
    progress: Progress = silent,
) -> None:
    """Write the documents of ``shards``, in their order, as token files of two splits.

    A document is held out if its id says so, whatever rank meets it, so that documents keep their split
    when others come or go. Its line goes to heldout/documents.jsonl.zst as it is; further copies of it, in a
    mixture that repeats documents, are left out.
    """
    sizes = dict.fromkeys(SPLITS, 0)  # bytes of text
    with ExitStack() as stack:
        write_text = stack.enter_context(line_writer(out / "heldout" / HELDOUT_TEXT))
        writers, tables = _writers(stack, out)
        for batch in batches_of(numbered_lines(shards, progress)):
            documents = [parse(line) for _, _, line in batch]
            encoded = encoder.encode([document["text"] for document in documents])
            for (shard, number, line), document, tokens in zip(
                batch, documents, encoded, strict=True
            ):
                split = "heldout" if is_heldout(document["id"], heldout_fraction) else "train"
                if split == "heldout" and REPEAT in document["id"]:
                    continue
                if split == "heldout":
                    write_text(line)
                start = writers[split].tokens
                row = row_of(document, start, len(tokens), shard.name, number)
                tables[split].add(row)
                writers[split].add(tokens, np.array([len(tokens)], dtype=ENDS_DTYPE))
                sizes[split] += row["bytes"]
    kind = {"dtype": encoder.dtype.name, "vocab_size": encoder.vocab_size, "eos_id": encoder.eos_id}
    _write_index(out, kind, writers, sizes)


def is_heldout(identity: str, fraction: float) -> bool:
    """Whether a document, with all its copies, is of the part that is held out."""
    return place(identity) < fraction


def _writers(
    stack: ExitStack, out: Path, limit: int = NO_LIMIT
) -> tuple[dict[str, SplitWriter], dict[str, DocumentsWriter]]:
    """The token files and the tables of both splits."""
    return (
        {name: stack.enter_context(closing(SplitWriter(out / name, limit))) for name in SPLITS},
        {name: stack.enter_context(closing(DocumentsWriter(out / name))) for name in SPLITS},
    )


def merge(
    pieces: list[Path], out: Path, file_bytes: int, progress: Progress = silent
) -> dict[str, Any]:
    """Join what the ranks encoded, in order of rank, to files of at most ``file_bytes``; returns counts.

    Raises ArtifactError if a piece is not whole.
    """
    first = read_json(pieces[0] / INDEX)
    sizes = dict.fromkeys(SPLITS, 0)
    limit = max(1, file_bytes // DTYPES[first["dtype"]].itemsize)
    with ExitStack() as stack:
        writers, tables = _writers(stack, out, limit)
        for number, piece in enumerate(pieces):
            for split, writer in writers.items():
                for batch in batches(piece / split):
                    tables[split].extend(batch, shift=writer.tokens)
                for tokens, ends in TokenFiles(piece, split).files():
                    writer.add(tokens, ends)
                sizes[split] += read_json(piece / INDEX)[split]["bytes"]
            progress(number + 1, len(pieces), "pieces")
    with line_writer(out / "heldout" / HELDOUT_TEXT) as write_text:
        for line in read_lines([piece / "heldout" / HELDOUT_TEXT for piece in pieces]):
            write_text(line)
    _write_index(
        out, {key: first[key] for key in ("dtype", "vocab_size", "eos_id")}, writers, sizes
    )
    train, heldout = writers["train"], writers["heldout"]
    documents = train.documents + heldout.documents
    text_tokens = train.tokens + heldout.tokens - documents  # without the eos of each document
    return {
        "documents_in": documents,
        "documents": documents,
        "heldout_documents": heldout.documents,
        "tokens": train.tokens,
        "heldout_tokens": heldout.tokens,
        "bytes": sum(sizes.values()),
        "bytes_per_token": round(sum(sizes.values()) / max(1, text_tokens), 4),
    }


def batches_of(lines: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    """Lists of lines of about BATCH_BYTES each."""
    batch, size = [], 0
    for numbered in lines:
        batch.append(numbered)
        size += len(numbered[2])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_index(
    out: Path, kind: dict[str, Any], writers: dict[str, SplitWriter], sizes: dict[str, int]
) -> None:
    splits = {
        split: {
            "tokens": writer.tokens,
            "documents": writer.documents,
            "bytes": sizes[split],  # of text, UTF-8
            "files": [path.relative_to(out).as_posix() for path in writer.paths],
        }
        for split, writer in writers.items()
    }
    write_json(out / INDEX, kind | splits)
