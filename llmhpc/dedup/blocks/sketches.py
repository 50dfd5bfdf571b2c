"""MinHash signatures of documents: a key for each bucket, and enough of the rest to estimate similarities."""

from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from llmhpc.dedup.blocks import rows, shards
from llmhpc.dedup.blocks.clusters import KEYED
from llmhpc.dedup.blocks.dealt import MB, bucket_file
from llmhpc.dedup.blocks.rows import Sorter
from llmhpc.dedup.blocks.shards import Register
from llmhpc.dedup.blocks.signature import Signer
from llmhpc.dedup.minhash import Config
from llmhpc.task import Task

SKETCH = np.dtype("<u4")  # the lower half of a hash: two differ by chance once in four billion
DOCUMENTS_AT_ONCE = 1 << 12
COMPARED_AT_ONCE = 1 << 13  # x 112 hashes x 4 bytes, twice


def write_signatures(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """Sign this rank's documents: keys for each bucket, sketches and the register of its shards."""
    buckets, hashes = cfg.bands()
    signer, register = (
        Signer(buckets * hashes, cfg.ngram_words, cfg.language),
        Register(cfg, out / "register"),
    )
    sketches = _SketchFiles(out / "sketches", buckets * hashes)
    memory = cfg.memory_mb * MB // buckets
    sorters = [Sorter(KEYED, memory, out / "sorting") for _ in range(buckets)]
    found: list[list[int]] = []  # buckets' keys and the document's number
    signed = 0
    for doc in shards.read(documents, task.rank, task.ranks, task.progress):
        register.add(doc)
        signature = signer.sign(doc.document["text"])
        sketches.add(doc.number, signature)
        if signature is not None:
            signed += 1
            found.append(
                _keys(shards.salt(cfg, doc), signature.reshape(buckets, hashes), doc.number)
            )
        if len(found) >= DOCUMENTS_AT_ONCE:
            _deal(found, sorters)
            found = []
    _deal(found, sorters)
    register.close()
    sketches.close()
    for bucket, sorter in enumerate(sorters):
        rows.write(bucket_file(out, bucket, task.rank), sorter.sorted())
    (out / "sorting").rmdir()
    return {"signatures": signed}


def _keys(salt: bytes, signature: np.ndarray, number: int) -> list[int]:
    """128 bits of each bucket's hashes, in halves: the chance that two of 10^12 documents agree by accident is 10^-15."""
    digests = b"".join(xxhash.xxh3_128_digest(salt + part.tobytes()) for part in signature)
    return [*np.frombuffer(digests, rows.U64).tolist(), number]


def _deal(found: list[list[int]], sorters: list[Sorter]) -> None:
    if found:
        table = np.array(found, rows.U64)
        for bucket, sorter in enumerate(sorters):
            sorter.add(table[:, [2 * bucket, 2 * bucket + 1, -1]])


class _SketchFiles:
    """One sketch per document of a shard; zeros where a text has no n-gram."""

    def __init__(self, folder: Path, hashes: int) -> None:
        self.folder, self.none = folder, np.zeros(hashes, SKETCH)
        self._shard = -1
        self._held: list[np.ndarray] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, number: int, signature: np.ndarray | None) -> None:
        if (shard := number >> shards.LINE_BITS) != self._shard or len(
            self._held
        ) >= DOCUMENTS_AT_ONCE:
            self.close()
            self._shard = shard
        self._held.append(self.none if signature is None else signature.astype(SKETCH))

    def close(self) -> None:
        if self._held:
            with (self.folder / f"{self._shard:06d}.u4").open("ab") as file:
                np.concatenate(self._held).tofile(file)
            self._held = []


class Sketches:
    """Estimates Jaccard similarities from the sketches of any two documents."""

    def __init__(self, folder: Path, hashes: int) -> None:
        self.folder, self.hashes = folder, hashes

    def similarity(self, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The share of hash functions whose minimum two documents have in common, for each pair, shape (n,)."""
        alike = [
            (
                self._of(ones[at : at + COMPARED_AT_ONCE])
                == self._of(others[at : at + COMPARED_AT_ONCE])
            ).mean(axis=1)
            for at in range(0, len(ones), COMPARED_AT_ONCE)
        ]
        return np.concatenate(alike) if alike else np.empty(0)

    def _of(self, numbers: np.ndarray) -> np.ndarray:
        found = np.empty((len(numbers), self.hashes), SKETCH)
        of_shard, lines = shards.split(numbers)
        for shard in np.unique(of_shard):
            path = self.folder / f"{int(shard):06d}.u4"
            table = np.memmap(path, SKETCH, "r").reshape(-1, self.hashes)
            at = of_shard == shard
            found[at] = table[lines[at]]
        return found
