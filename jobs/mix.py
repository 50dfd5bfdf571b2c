"""Stage mix: several sets of documents as one, in given shares of tokens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Phase, Stage, at_least
from llmhpc.errors import ConfigError
from llmhpc.files import read_json, write_json
from llmhpc.task import Task

TOKENIZER = "tokenizer"
MIXTURE = "mixture.json"
COUNTED = {True: "tokens of the tokenizer", False: "bytes of text / bytes_per_token"}


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Which share each input has, and how often it may be read at most. Behind dedup: that would drop the copies.

    ``needs`` has a name of your own for each input. With ``needs.tokenizer`` tokens are counted by it, else
    they are estimated from bytes.
    """

    seeded: ClassVar[bool] = True  # which documents the last, partial copy has

    kind: str = "mix"
    weights: dict[str, float] = field(
        default_factory=dict
    )  # name -> share of tokens; 3 and 1 is 0.75 and 0.25
    repeats: dict[str, float] = field(
        default_factory=dict
    )  # name -> times it may be read; not named: once
    # UTF-8 bytes, where nothing counts; not named: 4, of English about (the tokenizer step has heldout_bytes_per_token)
    bytes_per_token: dict[str, float] = field(default_factory=dict)
    mixture_tokens: int = 0  # in all; 0: as many as the weights and repeats let there be

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "mixture_tokens", 0)
        for name, table in self._tables().items():
            for key, value in table.items():
                if value <= 0:
                    raise ConfigError(f"{name}.{key}={value}: above 0")

    def _tables(self) -> dict[str, dict[str, float]]:
        return {
            "weights": self.weights,
            "repeats": self.repeats,
            "bytes_per_token": self.bytes_per_token,
        }

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError unless every input has a weight, and only inputs have settings."""
        inputs = sorted(set(played_by) - {TOKENIZER})
        if not inputs:
            raise ConfigError("needs: a name and a stage for each input, as in needs.web=filter")
        for name, table in self._tables().items():
            if unknown := sorted(set(table) - set(inputs)):
                raise ConfigError(f"{name}.{unknown[0]}: one of needs, {', '.join(inputs)}")
        if missing := [name for name in inputs if name not in self.weights]:
            raise ConfigError(f"weights.{missing[0]} is not set: its share of tokens")

    def phases(self) -> list[Phase]:
        """Ranks measure the inputs, one task decides what is taken of each, ranks write it."""
        return [Phase("measure", self.ranks), Phase("decide", 1), Phase("write", self.ranks)]

    def will_write(self, input_bytes: int) -> Footprint:
        """At most every input as often as it may be read."""
        return Footprint(int(input_bytes * max([1.0, *self.repeats.values()])), 4 * self.ranks)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/<rank>.jsonl.zst, and to mixture.json how many tokens of each input there are."""
    if task.phase == "measure":
        return _measure(cfg, inputs, out, task)
    if task.phase == "decide":
        return _decide(cfg, inputs, out, task)
    return _write(cfg, inputs, out, task)


def _sets(cfg: Config, inputs: dict[str, Path], task: Task) -> dict[str, list[Path]]:
    """This rank's shards of every input."""
    from llmhpc.tokens.shards import shard_paths

    names = sorted(cfg.weights)
    return {name: shard_paths(inputs[name])[task.rank :: task.ranks] for name in names}


def _size_of(inputs: dict[str, Path]) -> Callable[[str], int]:
    """What measures a text: in tokens, with the end of the document, if there is a tokenizer, else in bytes."""
    if TOKENIZER not in inputs:
        return lambda text: len(text.encode())
    from llmhpc.tokens.encode import open_encoder

    encoder = open_encoder(inputs[TOKENIZER], "auto")
    return lambda text: len(encoder.encode([text])[0])


def _measure(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    import numpy as np

    from llmhpc.tokens.mix import measure

    (out / "work").mkdir(parents=True)
    size_of = _size_of(inputs)
    for name, shards in _sets(cfg, inputs, task).items():
        sizes = measure(shards, size_of, task.seed, task.progress)
        np.save(out / "work" / f"{name}-{task.rank:05d}.npy", sizes)
    return {}


def _decide(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    import numpy as np

    from llmhpc.tokens.mix import plain, share_out

    counted = TOKENIZER in inputs
    sets = {}
    for name in sorted(cfg.weights):
        files = (task.home / "work" / f"{name}-{rank:05d}.npy" for rank in range(cfg.ranks))
        unit = 1.0 if counted else cfg.bytes_per_token.get(name, 4.0)
        sets[name] = sum(np.load(file) for file in files) / unit
    most = {name: cfg.repeats.get(name, 1.0) for name in sets}
    parts = plain(share_out(sets, cfg.weights, most, cfg.mixture_tokens), cfg.weights)
    write_json(out / MIXTURE, {"tokens_are": COUNTED[counted], "parts": parts})
    return {"mixed_tokens": {name: part["tokens"] for name, part in parts.items()}}


def _write(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    from llmhpc.tokens.mix import copies_of
    from llmhpc.tokens.shards import line_writer

    parts, written = read_json(task.home / MIXTURE)["parts"], {}
    with line_writer(out / "documents" / f"{task.rank:05d}.jsonl.zst") as write:
        for name, shards in _sets(cfg, inputs, task).items():
            written[name] = 0
            taken = parts[name]["copies"], parts[name]["bins"]
            for line in copies_of(shards, name, *taken, task.seed, task.progress):
                write(line)
                written[name] += 1
    return {"documents": sum(written.values()), "mixed_documents": written}
