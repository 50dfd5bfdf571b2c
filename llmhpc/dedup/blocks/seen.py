"""Units of documents looked up in Bloom filters, the best documents first."""

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rbloom
import xxhash

from llmhpc.dedup.blocks import rows, shards
from llmhpc.dedup.blocks.dealt import MB, Dealer, files_of
from llmhpc.dedup.blocks.outcome import Decided, Outcome
from llmhpc.dedup.blocks.rows import Sorter
from llmhpc.dedup.bloom import Config, Unit
from llmhpc.task import Task

ITEM = 5  # columns: order, hash of the id, document, two halves of the unit's hash
DOCUMENT, HIGH, LOW = 2, 3, 4
COUNTED = 2  # columns: a document, how many of its units were seen


def units_of(cfg: Config, text: str) -> Iterator[str]:
    """What of a text is looked up, in lower case and with single blanks."""
    if cfg.unit is Unit.paragraph:
        lines = (" ".join(line.lower().split()) for line in text.splitlines())
        return filter(None, lines)
    words = text.lower().split()
    if cfg.unit is Unit.document or len(words) <= cfg.ngram_words:
        return iter([" ".join(words)] if words else [])
    last = len(words) - cfg.ngram_words
    return (" ".join(islice(words, at, at + cfg.ngram_words)) for at in range(last + 1))


def write_units(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """Hash the different units of each document, dealt to buckets in the order of ``keep``."""
    register = shards.Register(cfg, out / "register")
    with Dealer(cfg, out, task.rank, cfg.buckets, columns=ITEM, key=HIGH) as dealer:
        for doc in shards.read(documents, task.rank, task.ranks, task.progress):
            before, digest = shards.salt(cfg, doc), xxhash.xxh3_128_intdigest
            units = {digest(before + unit.encode()) for unit in units_of(cfg, doc.document["text"])}
            place = (*register.add(doc, len(units)), doc.number)
            for unit in units:
                dealer.add((*place, *shards.halves(unit)))
    register.close()
    return {"units": dealer.rows}


def write_seen(cfg: Config, home: Path, out: Path, task: Task) -> dict[str, Any]:
    """Count, per document, the units of this bucket that a better document has; write ``out``/seen/{bucket}.rows."""
    files = files_of(home, task.rank)
    items = sum(rows.count(path, ITEM) for path in files)
    passes, counts = cfg.passes(items), Sorter(COUNTED, cfg.memory_mb * MB // 2, out / "sorting")
    mean = items / passes  # a hash deals unevenly: four standard deviations more
    expected, done = math.ceil(mean + 4 * math.sqrt(mean)) if passes > 1 else items, 0
    for number in range(passes):
        new = _Filter(expected, cfg.false_positives)
        for part in rows.merged(files, ITEM, cfg.memory_mb * MB // 2):
            done += len(part)
            mine = part[part[:, LOW] % np.uint64(passes) == number]
            seen = mine[new.add(mine[:, HIGH:])]
            found, times = np.unique(seen[:, DOCUMENT], return_counts=True)
            counts.add(np.stack([found, times.astype(rows.U64)], axis=1))
            task.progress(done, passes * items, "units")
    rows.write(out / "seen" / f"{task.rank:04d}.rows", counts.sorted())
    (out / "sorting").rmdir()
    return {"passes": passes}


class _Filter:
    """A Bloom filter over 128-bit hashes in halves."""

    def __init__(self, items: int, false_positives: float) -> None:
        self._bloom = rbloom.Bloom(max(1, items), false_positives, hash_func=int)

    def add(self, halves: np.ndarray) -> np.ndarray:
        """Put items in, one after the other; says of each whether it seemed to be there already, shape (n,)."""
        bloom, seen = self._bloom, np.zeros(len(halves), bool)
        for number, (high, low) in enumerate(halves.tolist()):
            item = (high << 64 | low) - (1 << 127)  # rbloom takes signed numbers
            if item in bloom:
                seen[number] = True
            else:
                bloom.add(item)
        return seen


def keep_new(cfg: Config, documents: Path, home: Path, out: Path, task: Task) -> dict[str, Any]:
    """Drop each document of this rank's shards of whose units at least ``threshold`` were seen."""
    register, files = shards.Registered(home / "register"), sorted((home / "seen").glob("*.rows"))
    mine = range(task.rank, len(shards.list_shards(documents)), task.ranks)

    def told() -> Iterator[np.ndarray]:
        for shard in mine:
            spans = [rows.span(path, COUNTED, *shards.numbers_of(shard)) for path in files]
            yield from rows.merged_ranges(spans, COUNTED, cfg.memory_mb * MB)

    decided = Decided(told())
    with Outcome(cfg, out, task.rank) as outcome:
        for doc in shards.read(documents, task.rank, task.ranks, task.progress):
            seen = sum(times for _, times in decided.of(doc.number))
            share = seen / register.units(*shards.place(doc.number)) if seen else 0.0
            if share >= cfg.threshold:
                outcome.drop(doc, 1, share, None)
            else:
                outcome.keep(doc, 1)
        return outcome.result()
