"""Stage tokenizer: a byte-level BPE tokenizer trained on a sample of the documents, or one that is there; and what can be seen in it."""

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmhpc.config import Finding, Footprint, Phase, Stage, at_least, fraction
from llmhpc.errors import ConfigError, StageError
from llmhpc.files import write_json
from llmhpc.task import Task
from llmhpc.tokens import BYTES, SPECIALS, folder, hub

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from llmhpc.tokens.sample import Sample

NUMBERS = 100 + 1000  # of two and of three digits
BASE_GB, GB_PER_SAMPLE_GB = (
    0.4,
    3.0,
)  # of memory, measured with samples of source code; prose takes less
ENTRY_BYTES = 128  # of a token in tokenizer.json, with its merge, and in vocabulary.parquet
# Of text like <|user|>: a name within no piece that a text is cut into, so that no merge can make it.
SPECIAL = re.compile(r"<\|[A-Za-z][\w-]*\|>")


class Digits(Enum):
    """How numbers are cut: every digit a token, or in threes from the right with all up to 999 as tokens."""

    split = "split"
    up_to_999 = "up_to_999"


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Settings of tokenizer. ``ranks`` read the documents, each keeping up to ``sample_mb`` on disk for a while."""

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}

    kind: str = "tokenizer"
    folder: str = ""  # of a tokenizer that is taken as it is: one that transformers opens, or NAME@COMMIT of the hub
    vocab_size: int = 32768  # all tokens (with folder: at most); made a multiple of vocab_multiple
    vocab_multiple: int = 1  # for parallel.tp, which cuts the vocabulary; more merges fill the room
    digits: Digits = Digits.split
    blank_run: int = 1  # runs of up to so many blanks are one token, whatever the sample has
    special_tokens: list[str] = field(default_factory=list)  # ids from 2 on, in this order
    sample_mb: int = 512  # of text, from all shards; held in memory about three times
    sample_by: str = ""  # metadata field (mix, language, ...) or domain: as much text of each value
    heldout_fraction: float = 0.005  # of the documents, not trained on: as in tokenize, or more

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name in ("sample_mb", "vocab_multiple", "blank_run"):
            at_least(self, name, 1)
        fraction(self, "heldout_fraction")
        for number, name in enumerate(self.special_tokens):
            if not SPECIAL.fullmatch(name):
                raise ConfigError(f"special_tokens.{number}={name!r}: a name like <|user|>")
            if name in (*SPECIALS, *self.special_tokens[:number]):
                raise ConfigError(f"special_tokens.{number}={name!r}: is there already")
        if self.folder:
            self._check_folder()
        elif self.vocab_size < (smallest := self._smallest()):
            raise ConfigError(
                f"vocab_size={self.vocab_size}: {smallest} or more ({BYTES} bytes,"
                f" {len(SPECIALS) + len(self.special_tokens)} specials, digits={self.digits.value}, blank_run)"
            )
        self.vocab_size += -self.vocab_size % self.vocab_multiple

    def _check_folder(self) -> None:
        self.folder = hub.absolute(self.folder)
        for name, default in {"digits": Digits.split, "blank_run": 1, "vocab_multiple": 1}.items():
            if (value := getattr(self, name)) != default:
                said = getattr(value, "value", value)
                raise ConfigError(f"{name}={said}: not with folder, whose tokenizer is as it is")

    def before_launch(self) -> None:
        """Raise ConfigError unless ``folder``, if it is set, has the tokenizer that is asked for."""
        if self.folder:
            self.checked_folder()

    def checked_folder(self) -> Path:
        """Where the tokenizer's folder is. Raises ConfigError unless it has the one that is asked for."""
        try:
            there = hub.folder(self.folder)
        except ConfigError as error:
            raise ConfigError(f"folder={error}") from None
        folder.check(there, self.vocab_size, self.special_tokens)
        return there

    def _smallest(self) -> int:
        numbers = NUMBERS if self.digits is Digits.up_to_999 else 0
        return BYTES + len(SPECIALS) + len(self.special_tokens) + numbers + self.blank_run - 1

    def phases(self) -> list[Phase]:
        """Ranks pick from their shards; one task picks from that and trains."""
        return [Phase("pick", self.ranks), Phase("train", 1)]

    def foresee(
        self, inputs: dict[str, Path], out: Path, *, machine_gb: float | None
    ) -> list[Finding]:
        """Memory, by the size of the sample."""
        wanted, given = BASE_GB + GB_PER_SAMPLE_GB * self.sample_mb / 1000, self.resources.mem_gb
        if wanted <= given:
            return []
        most = int((given - BASE_GB) / GB_PER_SAMPLE_GB * 1000)
        message = f"sample_mb={self.sample_mb}: takes {wanted:.1f} GB, resources.mem_gb={given:g}; {most} or less, or more memory"
        return [Finding(message, estimate=True)]

    def will_write(self, input_bytes: int) -> Footprint:
        """What the ranks pick, then one folder, whatever was read."""
        picked = min(self.ranks * self.sample_mb * 1_000_000, input_bytes or 1 << 62)
        return Footprint(picked + ENTRY_BYTES * self.vocab_size, 3 * self.ranks + 5)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write tokenizer/, a Hugging Face folder, and inspection.json with vocabulary.parquet."""
    from llmhpc.tokens import sample
    from llmhpc.tokens.inspection import inspect
    from llmhpc.tokens.shards import shard_paths

    size = cfg.sample_mb * 1_000_000
    if task.phase == "pick":
        shards = shard_paths(inputs["documents"])[task.rank :: task.ranks]
        picked = sample.pick(shards, size, cfg.heldout_fraction, cfg.sample_by, task.progress)
        sample.write(picked, out / "work" / f"{task.rank:05d}")
        return {}
    folders = [task.home / "work" / f"{rank:05d}" for rank in range(cfg.ranks)]
    picked = sample.gather(folders, size, task.progress)
    train, heldout = picked.samples["train"], picked.samples["heldout"]
    if cfg.sample_by and set(train.groups) == {sample.group_number("")}:
        raise StageError(
            f"sample_by={cfg.sample_by}: no document has it in its metadata; a field that they have, or domain"
        )
    tokenizer = _tokenizer(cfg, train, out / "tokenizer", task)
    seen = inspect(tokenizer, train, heldout, out, task.progress)
    write_json(out / "inspection.json", seen)
    return {
        "documents_in": picked.documents,
        "documents": len(train.rows()),
        "sample_bytes": train.size_bytes,
        "vocab_size": tokenizer.get_vocab_size(),
        "heldout_documents": seen["heldout"]["documents"],
        "heldout_bytes_per_token": seen["heldout"]["bytes_per_token"] or 0.0,
    }


def _tokenizer(cfg: Config, sample: "Sample", out: Path, task: Task) -> "Tokenizer":
    """Train one, or take the one in the folder; it is written to ``out``."""
    from llmhpc.tokens import bpe

    if cfg.folder:
        there = cfg.checked_folder()
        tokenizer = folder.read(there)
        folder.save(there, tokenizer, out)
        return tokenizer
    task.progress(0, 1, "tokenizers", f"merging pairs of {sample.size_bytes / 1e6:.0f} MB")
    tokenizer = bpe.train_bpe(
        sample.texts(), cfg.vocab_size, cfg.digits.value, cfg.blank_run, cfg.special_tokens
    )
    bpe.save(tokenizer, out)
    return tokenizer
