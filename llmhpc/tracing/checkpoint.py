"""What a checkpoint of a training has seen."""

from pathlib import Path
from typing import Any, NamedTuple

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


def batches_of(training: Node) -> Batches:
    """What a training on tokens reads."""
    schedule = revive(Stage, training.config).schedule
    tokens = {role: TokenFiles(training.inputs[role]) for role in roles_of(training)}
    return open_batches(tokens, schedule, training.seed)


def seen(flow: Flow, one: Checkpoint) -> dict[str, Any]:
    """Tokens, and of each source its epochs and how many of its documents were read wholly, in part and never."""
    training, step = one
    schedule = revive(Stage, training.config).schedule
    told: dict[str, Any] = {"step": training.name, "steps": step}
    told["tokens"] = step * schedule.tokens_per_step()
    if not roles_of(training):
        return told | {"sources": [_of_text(flow, one)]}
    batches = batches_of(training)
    drawn = batches.drawn_by(step)
    return told | {
        "sources": [
            {
                "source": role,
                "step": _name(flow, training.inputs[role]),
                "sequences": drawn[role],
                "of": source.count,
                "tokens": drawn[role] * batches.length,
                "epochs": round(drawn[role] / source.count, 4),
                "documents": documents_seen(source, drawn[role]),
            }
            for role, source in batches.sources.items()
        ]
    }


def _of_text(flow: Flow, one: Checkpoint) -> dict[str, Any]:
    home, at = one.training.inputs["documents"], reading(one)
    shard = shard_paths(home)[at["shard"]].name
    place = {"epoch": at["epoch"], "shard": shard, "line": at["line"]}
    return {"source": "documents", "step": _name(flow, home), **place}


def _name(flow: Flow, home: Path) -> str:
    return flow.nodes[home].name if home in flow.nodes else home.name


def documents_seen(source: Source, drawn: int) -> dict[str, int]:
    """How many documents of a source ``drawn`` sequences hold wholly, in part and not at all."""
    epochs, rest = divmod(drawn, source.count)
    read = source.sequences.read_in(source.seed, 0, source.count if epochs else rest)
    counts = {"wholly": 0, "partly": 0, "never": 0}
    for marked, held in source.sequences.coverage(read):
        wholly, never = int((marked == held).sum()), int((marked == 0).sum())
        counts["wholly"] += wholly
        counts["never"] += never
        counts["partly"] += len(held) - wholly - never
    return counts
