"""From a training token to its document, and through every step to the page that was collected."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.errors import ArtifactError, LlmhpcError
from llmhpc.tokens import documents
from llmhpc.tokens.reader import TokenFiles
from llmhpc.tokens.shards import REPEAT, parse, read_lines
from llmhpc.tracing.flow import Flow, Node, came_through

AROUND = 40  # tokens shown on each side


class NotThereError(LlmhpcError):
    """There is no such token."""


def trace_token(flow: Flow, node: Node, split: str, position: int) -> dict[str, Any]:
    """Where the token at ``position`` of a split came from. Raises NotThereError."""
    tokens, folder = TokenFiles(node.home, split), node.home / split
    if not 0 <= position < len(tokens):
        raise NotThereError(
            f"token {position}: {split} of {node.home.name} has 0 to {len(tokens) - 1}"
        )
    number, row = documents.at_token(folder, position)
    document = document_at(node, row)
    metadata = document.get("metadata") or {}
    file, offset = tokens.place(position)
    path = [
        {"step": node.name, "home": str(node.home), "what": f"{file}, token {offset}"},
        *came_through(flow, node, metadata),
    ]
    path[1]["what"] = f"documents/{row['shard']}, line {row['line'] + 1} {path[1]['what']}".rstrip()
    return {
        "split": split,
        "position": position,
        "document": number,
        **_text(node, tokens, row, position),
        **{key: row[key] for key in ("id", "url", "domain", "start", "tokens")},
        **copy_of(folder, row["id"]),
        "metadata": metadata,
        "path": path,
    }


def document_at(node: Node, row: dict[str, Any]) -> dict[str, Any]:
    """The document of a row, read from the shard that was tokenized. Raises ArtifactError if it is another."""
    shard = node.sources()[0] / "documents" / row["shard"]
    line = next(islice(read_lines([shard]), row["line"], None), None)
    document = parse(line) if line is not None else {"id": None}
    if document["id"] != row["id"]:
        raise ArtifactError(
            f"{shard}: line {row['line'] + 1} is not {row['id']}, as {node.name} says"
        )
    return document


def copy_of(folder: Path, identity: str) -> dict[str, Any]:
    """Of a further copy in a mixture: which it is, and where the first one is in the split."""
    first, repeat, copy = identity.partition(REPEAT)
    if not repeat:
        return {}
    found = [row for _, row in documents.rows_with(folder, "id", first) if row["id"] == first]
    return {
        "copy": int(copy),
        "first": {"id": first, "start": found[0]["start"] if found else None},
    }


def _text(node: Node, tokens: TokenFiles, row: dict[str, Any], position: int) -> dict[str, Any]:
    """The token, and the text on both sides of it within its document."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(node.inputs["tokenizer"] / "tokenizer" / "tokenizer.json"))
    start, end = row["start"], row["start"] + row["tokens"]
    first, last = max(start, position - AROUND), min(end, position + AROUND + 1)
    before, token, after = np.split(
        tokens.window(first, last - first), [position - first, position - first + 1]
    )
    text = encoder.decode_batch([part.tolist() for part in (before, token, after)], False)
    return {"in_document": position - start, "token_id": int(token[0]), "text": text}
