"""Stage tokenize: documents as files of token ids, with some documents held out for evaluation."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Phase, Stage, fraction
from llmhpc.errors import ConfigError, StageError
from llmhpc.task import Task


class TokenType(Enum):
    """How a token id is stored; auto takes the smallest type that holds the vocabulary."""

    auto = "auto"
    uint16 = "uint16"
    uint32 = "uint32"


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Settings of tokenize. The files do not depend on ``ranks``: documents stay in the order of the input."""

    roles: ClassVar[dict[str, str]] = {
        "documents": "a step that writes documents/",
        "tokenizer": "a step that writes tokenizer/",
    }

    kind: str = "tokenize"
    heldout_fraction: float = 0.005  # of the documents, picked by their ids
    dtype: TokenType = TokenType.auto
    file_gb: float = 16.0  # 1e9 bytes; a file of tokens is no larger, unless one document is

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        fraction(self, "heldout_fraction")
        if self.file_gb <= 0:
            raise ConfigError(f"file_gb={self.file_gb}: above 0")

    def phases(self) -> list[Phase]:
        """Ranks encode stretches of the shards; one task joins them and writes the index."""
        return [Phase("encode", self.ranks), Phase("merge", 1)]

    def will_write(self, input_bytes: int) -> Footprint:
        """Text packed four to one, four bytes of it to a token of two: the tokens twice, in pieces and joined."""
        return Footprint(4 * input_bytes, 8 * self.ranks)

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError if ``dtype`` cannot hold the ids of the tokenizer stage's vocabulary."""
        vocab_size = getattr(played_by.get("tokenizer"), "vocab_size", 0)
        if self.dtype is TokenType.uint16 and vocab_size > 1 << 16:
            raise ConfigError(
                f"dtype=uint16: holds ids below 65536, the tokenizer has vocab_size={vocab_size}; "
                "auto or uint32, or a smaller vocabulary"
            )


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write tokens.json, train/ and heldout/ with *.ds and documents.parquet, and the held-out documents."""
    from llmhpc.tokens.encode import encode, merge, open_encoder
    from llmhpc.tokens.shards import shard_paths

    if task.phase == "encode":
        shards = shard_paths(inputs["documents"])
        start, stop = (len(shards) * rank // task.ranks for rank in (task.rank, task.rank + 1))
        encoder = open_encoder(inputs["tokenizer"], cfg.dtype.value)
        piece = out / "work" / f"{task.rank:05d}"
        encode(shards[start:stop], encoder, cfg.heldout_fraction, piece, task.progress)
        return {}
    pieces = [task.home / "work" / f"{rank:05d}" for rank in range(cfg.ranks)]
    counts = merge(pieces, out, int(cfg.file_gb * 1e9), task.progress)
    read, heldout = counts["documents_in"], counts["heldout_documents"]
    if read == heldout or (cfg.heldout_fraction and not heldout):
        left = "to train on" if heldout else "held out"
        raise StageError(
            f"heldout_fraction={cfg.heldout_fraction}: of {read} documents none is {left}; "
            f"{'a smaller' if heldout else 'a larger'} fraction, or more documents"
        )
    return counts
