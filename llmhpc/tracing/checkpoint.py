"""What a checkpoint of a training has seen."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmhpc.config import Stage
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.files import read_json
from llmhpc.planning.registry import revive
from llmhpc.tokens.reader import TokenFiles
from llmhpc.tokens.shards import shard_paths
from llmhpc.tracing.flow import Flow, Node
from llmhpc.train.data import ONLY, Batches, Source
from llmhpc.train.mixture import open_batches


class Checkpoint(NamedTuple):
    """A training as it was after a step."""

    training: Node
    step: int


def find(flow: Flow, words: str) -> Checkpoint:
    """The checkpoint of a step's number, or of the path of a checkpoint or an export. Raises ConfigError."""
    trainings = sorted(flow.of_kind("train"), key=lambda node: node.name)
    if words.isdecimal():
        found = [Checkpoint(node, int(words)) for node in trainings]
    else:
        path = Path(words).resolve()
        number = int(path.name) if path.name.isdecimal() else -1
        homes = [node for node in trainings if node.home.resolve() == path.parent.parent]
        found = [Checkpoint(node, number) for node in homes]
    kept = [one for one in found if _is_there(one)]
    if len(kept) == 1:
        return kept[0]
    if kept:
        paths = ", ".join(str(_folder(one)) for one in kept)
        raise ConfigError(f"--checkpoint {words}: one of {paths}")
    steps = [f"{step} of {node.name}" for node in trainings for step in _steps_of(node)]
    raise ConfigError(f"--checkpoint {words}: one of {', '.join(steps) or 'none, there are none'}")


def _folder(one: Checkpoint) -> Path:
    return one.training.home / "checkpoints" / f"{one.step}"


def _is_there(one: Checkpoint) -> bool:
    return _folder(one).is_dir() or (one.training.home / "exports" / f"{one.step:06d}").is_dir()


def _steps_of(training: Node) -> list[int]:
    folders = (training.home / "checkpoints").glob("*")
    return sorted(int(folder.name) for folder in folders if folder.name.isdecimal())


def newest_of(training: Node) -> Checkpoint | None:
    """The newest checkpoint of a training, if there is one."""
    folder = training.home / "checkpoints"
    step = read_json(folder / "latest.txt")
    if step is None or not (folder / f"{step}" / "state.json").is_file():
        return None
    return Checkpoint(training, int(step))


def reading(one: Checkpoint) -> dict[str, Any]:
    """Where a training on text had got to. Raises ArtifactError if the checkpoint itself is gone."""
    if (state := read_json(_folder(one) / "state.json")) is None:
        raise ArtifactError(f"{_folder(one)}: no state.json; how far it had read is there")
    position: dict[str, Any] = state["reading"]
    return position


def roles_of(training: Node) -> list[str]:
    """As what a training reads sets of tokens; none if it reads text."""
    sources = revive(Stage, training.config).schedule.sources() or [ONLY]
    return [role for role in sources if role in training.inputs]


def batches_of(training: Node, at: Checkpoint | None = None) -> Batches:
    """What a training on tokens reads, without what ``at``, else its newest checkpoint, knows to be left out."""
    schedule = revive(Stage, training.config).schedule
    tokens = {role: TokenFiles(training.inputs[role]) for role in roles_of(training)}
    batches = open_batches(tokens, schedule, training.seed)
    known = at or newest_of(training)
    state = known and read_json(_folder(known) / "state.json")
    batches.left_out = (state or {}).get("watch", {}).get("left_out", [])
    return batches


def seen(flow: Flow, one: Checkpoint) -> dict[str, Any]:
    """Tokens, and of each source its epochs and how many of its documents were read wholly, in part and never."""
    training, step = one
    schedule = revive(Stage, training.config).schedule
    told: dict[str, Any] = {"step": training.name, "steps": step}
    told["tokens"] = schedule.tokens_at(step)
    if not roles_of(training):
        return told | {"sources": [_of_text(flow, one)]}
    batches = batches_of(training, one)
    drawn, stretches = batches.drawn_by(step), batches.stretches(step)
    told["sources"] = []
    for role, source in batches.sources.items():
        read = [tuple(batches.before(number)[role] for number in pair) for pair in stretches]
        told["sources"].append(
            {
                "source": role,
                "step": _name(flow, training.inputs[role]),
                "sequences": drawn[role],
                "of": source.count,
                "tokens": drawn[role] * batches.length,
                "epochs": round(drawn[role] / source.count, 4),
                "documents": documents_seen(source, read),
            }
        )
    return told


def _of_text(flow: Flow, one: Checkpoint) -> dict[str, Any]:
    home, at = one.training.inputs["documents"], reading(one)
    shard = shard_paths(home)[at["shard"]].name
    place = {"epoch": at["epoch"], "shard": shard, "line": at["line"]}
    return {"source": "documents", "step": _name(flow, home), **place}


def _name(flow: Flow, home: Path) -> str:
    return flow.nodes[home].name if home in flow.nodes else home.name


def documents_seen(source: Source, stretches: list[tuple[int, ...]]) -> dict[str, int]:
    """How many documents of a source are wholly, in part and not at all in its sequences from where to where."""
    read = np.zeros(source.count, dtype=bool)
    for begin, end in stretches:
        for epoch in range(begin // source.count, -(-end // source.count)):
            if read.all():
                break
            inside = (number - epoch * source.count for number in (begin, end))
            first, stop = (min(max(0, number), source.count) for number in inside)
            before, behind = (
                source.sequences.read_in(source.seed, epoch, index) for index in (first, stop)
            )
            read |= behind & ~before
    counts = {"wholly": 0, "partly": 0, "never": 0}
    for marked, held in source.sequences.coverage(read):
        wholly, never = int((marked == held).sum()), int((marked == 0).sum())
        counts["wholly"] += wholly
        counts["never"] += never
        counts["partly"] += len(held) - wholly - never
    return counts
