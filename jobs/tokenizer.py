"""Stage tokenizer: a byte-level BPE tokenizer trained on a sample of the documents."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Phase, Stage, at_least, fraction
from llmhpc.errors import ConfigError
from llmhpc.task import Task

SMALLEST = 256 + 2  # every byte, the end of a document and padding
ENTRY_BYTES = 64  # of a token in tokenizer.json, with its merge


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Settings of tokenizer; ``ranks`` has no use, training is one task."""

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}

    kind: str = "tokenizer"
    vocab_size: int = 32768
    sample_mb: int = 512  # of text, from all shards; held in memory about three times
    heldout_fraction: float = 0.005  # of the documents, not trained on: as in tokenize, or more

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "sample_mb", 1)
        fraction(self, "heldout_fraction")
        if self.vocab_size < SMALLEST:
            raise ConfigError(
                f"vocab_size={self.vocab_size}: {SMALLEST} or more (256 bytes, 2 specials)"
            )
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, a tokenizer is trained in one task")

    def phases(self) -> list[Phase]:
        """One task."""
        return [Phase("train", 1)]

    def will_write(self, input_bytes: int) -> Footprint:
        """One folder, whatever was read."""
        return Footprint(ENTRY_BYTES * self.vocab_size, 3)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write tokenizer/, a Hugging Face folder."""
    from llmhpc.tokens import bpe
    from llmhpc.tokens.shards import shard_paths

    shards = shard_paths(inputs["documents"])
    documents, sample, heldout = bpe.pick(
        shards, cfg.sample_mb * 1_000_000, cfg.heldout_fraction, task.progress
    )
    task.progress(0, 1, "tokenizers", f"merging pairs of {sample.size_bytes / 1e6:.0f} MB")
    tokenizer = bpe.train_bpe(texts := sample.texts(), cfg.vocab_size)
    bpe.save(tokenizer, out / "tokenizer")
    size, tokens = bpe.bytes_per_token(tokenizer, heldout.texts())
    return {
        "documents_in": documents,
        "documents": len(texts),
        "sample_bytes": sample.size_bytes,
        "vocab_size": cfg.vocab_size,
        "heldout_documents": len(heldout.texts()),
        "heldout_bytes_per_token": round(size / tokens, 4) if tokens else 0.0,
    }
