"""Picks documents to train a tokenizer on and others to measure it with: by their ids, evenly over groups.

Every rank picks from its shards, one task picks from what the ranks picked. Both keep what the same rule takes of
all documents, so the result does not depend on ranks, shards or their order: the size of a group only grows while
documents come, so the level (the bytes that each group may have) only falls, and what was let go is never missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from llmhpc.files import read_json, write_json
from llmhpc.tokens.domains import domain_of
from llmhpc.tokens.shards import (
    HASH_BITS,
    REPEAT,
    Progress,
    hash64,
    line_writer,
    parse,
    place,
    read_lines,
    silent,
)

MEASURED_BYTES = 10_000_000  # of held-out text, to measure the tokenizer with
DOMAIN = "domain"  # found by the address, where metadata has none of that name
FIELDS = ("mix", "language", DOMAIN)  # what texts are told apart by when measured
GROUP_BITS = 20  # groups with the same hash share a budget: bounds what there is to know of them
SLACK = 1.25  # more than the budget is held, so as not to sort at every document
SPLITS = ("train", "heldout")
GROUPS = "groups.json"

Row = tuple[float, str, int, bytes]  # key, id, bytes of text, JSON


@dataclass(slots=True)
class Group:
    """What is held of one group, and what has to be known of the rest."""

    size: int = 0  # bytes of text of all its documents
    held: list[Row] = field(default_factory=list)
    cut: tuple[float, str] = (-1.0, "")  # greatest key and id let go; all below are out as well


@dataclass(slots=True)
class Sample:
    """Documents with the greatest keys of each group, about ``budget_bytes`` of text in all.

    Groups with less than an equal part leave the rest to the others. Of the document that crosses the level the
    hash of its id decides, so that as much is taken as the level says, whatever the size of documents.
    """

    budget_bytes: int
    groups: dict[int, Group] = field(default_factory=dict)
    _held: int = 0
    _most: float = 0.0

    def group(self, name: int) -> Group:
        """The group of that name."""
        return self.groups.setdefault(name, Group())

    def hold(self, group: Group, row: Row) -> None:
        """Take a document that ``group.size`` counts already, unless it is known to be out."""
        if row[:2] <= group.cut:
            return
        group.held.append(row)
        self._held += row[2]
        if self._held > max(self._most, SLACK * self.budget_bytes):
            self._let_go()

    @property
    def size_bytes(self) -> int:
        """Of the text that is taken."""
        return sum(row[2] for row in self.rows())

    def texts(self) -> Iterator[str]:
        """The texts that are taken, greatest key first."""
        return (orjson.loads(line)["text"] for _, _, _, line in self.rows())

    def rows(self) -> list[Row]:
        """What is taken, greatest key first."""
        self._let_go()
        return sorted((row for group in self.groups.values() for row in group.held), reverse=True)

    def _level(self) -> float:
        rest, sizes = self.budget_bytes, sorted(group.size for group in self.groups.values())
        for filled, size in enumerate(sizes):
            level = rest // (len(sizes) - filled)
            if size > level:
                return level
            rest -= size
        return float("inf")

    def _let_go(self) -> None:
        level, self._held = self._level(), 0
        for group in self.groups.values():
            group.held.sort(reverse=True)
            start = 0
            for number, (key, identity, size, _) in enumerate(group.held):
                if start + size * _luck(identity) >= level:
                    group.cut = max(group.cut, (key, identity))
                    del group.held[number:]
                    break
                start += size
            self._held += start
        self._most = SLACK * self._held


def _luck(identity: str) -> float:
    return hash64(identity, b"sample") / (1 << HASH_BITS)


@dataclass(slots=True)
class Picked:
    """Documents to train on and held-out ones to measure with, of ``documents`` that were read."""

    samples: dict[str, Sample]  # of SPLITS
    documents: int = 0

    @classmethod
    def empty(cls, sample_bytes: int) -> "Picked":
        """Nothing yet."""
        return cls({"train": Sample(sample_bytes), "heldout": Sample(MEASURED_BYTES)})


def pick(
    shards: list[Path],
    sample_bytes: int,
    heldout_fraction: float,
    sample_by: str = "",
    progress: Progress = silent,
) -> Picked:
    """What is taken of the shards' documents.

    Held-out ones are the first of those that a tokenize stage with this fraction, or a larger one, holds out; the
    ones to train on start at the other end of the line. ``sample_by`` is a field of the metadata, or ``domain``.
    """
    picked = Picked.empty(sample_bytes)
    fields = {*FIELDS, sample_by} - {""}
    for line in read_lines(shards, progress):
        document = parse(line)
        identity, where = document["id"], place(document["id"])
        picked.documents += 1
        is_heldout = where < heldout_fraction
        if is_heldout and REPEAT in identity:
            continue
        about = {name: value for name in fields if (value := value_of(document, name))}
        key = 1 - where if is_heldout else where
        name = "" if is_heldout or not sample_by else about.get(sample_by, "")
        number = group_number(name)
        row = {"id": identity, "text": document["text"], "metadata": about}
        line = orjson.dumps(row | {"key": key, "group": number}, option=orjson.OPT_SORT_KEYS)
        size = len(document["text"].encode())
        sample = picked.samples[SPLITS[is_heldout]]
        group = sample.group(number)
        group.size += size
        # A copy: what orjson returns stands in a block of several times its size.
        sample.hold(group, (key, identity, size, bytes(memoryview(line))))
    return picked


def group_number(name: str) -> int:
    """What stands for a group's name."""
    return hash64(name, b"group") >> HASH_BITS - GROUP_BITS


def value_of(document: dict[str, Any], name: str) -> str:
    """What a document's metadata says; "" where it says nothing."""
    metadata = document.get("metadata") or {}
    value = metadata.get(name) or (domain_of(metadata) if name == DOMAIN else "")
    return str(value)


def write(picked: Picked, folder: Path) -> None:
    """Write what one rank picked: at most about the budget, and what is known of the rest."""
    known: dict[str, Any] = {"documents": picked.documents}
    for split, sample in picked.samples.items():
        with line_writer(_rows(folder, split)) as write_line:
            for _, _, _, line in sample.rows():
                write_line(line)
        known[split] = [[name, g.size, *g.cut] for name, g in sorted(sample.groups.items())]
    write_json(folder / GROUPS, known)


def gather(folders: list[Path], sample_bytes: int, progress: Progress = silent) -> Picked:
    """What is taken of all that the ranks picked."""
    picked = Picked.empty(sample_bytes)
    for folder in folders:
        known = read_json(folder / GROUPS)
        picked.documents += known["documents"]
        for split, sample in picked.samples.items():
            for name, size, key, identity in known[split]:
                group = sample.group(name)
                group.size += size
                group.cut = max(group.cut, (key, identity))
    for split, sample in picked.samples.items():
        for line in read_lines([_rows(folder, split) for folder in folders], progress):
            row = orjson.loads(line)
            size = len(row["text"].encode())
            sample.hold(sample.group(row["group"]), (row["key"], row["id"], size, line))
    return picked


def _rows(folder: Path, split: str) -> Path:
    return folder / f"{split}.jsonl.zst"
