"""How often training has read some tokens, or a document."""

import json
from pathlib import Path
from typing import Any

from llmhpc.config import Stage
from llmhpc.files import read_json
from llmhpc.planning.registry import revive
from llmhpc.tokens.encode import is_heldout
from llmhpc.tokens.reader import TokenFiles
from llmhpc.tokens.shards import shard_paths
from llmhpc.tracing.flow import Flow, Node
from llmhpc.train.data import ONLY, Batches
from llmhpc.train.mixture import open_batches


def times_read(flow: Flow, node: Node, start: int, stop: int) -> list[dict[str, Any]]:
    """For each training on the tokens of ``node``: its steps so far, and how often they read start to stop."""
    found = []
    for training in flow.of_kind("train"):
        if not (roles := roles_of(training, node)) or not (steps := _steps(training.home)):
            continue
        batches = batches_of(training)
        drawn = batches.drawn_by(steps)
        times = [batches.sources[role].times_read(start, stop, drawn[role]) for role in roles]
        least, most = map(sum, zip(*times, strict=True))
        found.append({"step": training.name, "steps": steps, "least": least, "most": most})
    return found


def roles_of(training: Node, tokens: Node) -> list[str]:
    """As what a training reads the tokens of a step."""
    sources = revive(Stage, training.config).schedule.sources() or [ONLY]
    return [role for role in sources if training.inputs.get(role) == tokens.home]


def batches_of(training: Node) -> Batches:
    """What a training on tokens reads."""
    schedule = revive(Stage, training.config).schedule
    roles = schedule.sources() or [ONLY]
    tokens = {role: TokenFiles(training.inputs[role]) for role in roles}
    return open_batches(tokens, schedule, training.seed)


def times_streamed(
    flow: Flow, home: Path, shard: str, line: int, identity: str
) -> list[dict[str, Any]]:
    """The same of trainings on the text of the step in ``home``, as of their newest checkpoint."""
    found = []
    for training in flow.of_kind("train"):
        if training.inputs.get("documents") != home:
            continue
        folder = training.home / "checkpoints"
        state = read_json(folder / f"{read_json(folder / 'latest.txt')}" / "state.json")
        if state is None or is_heldout(identity, training.config["heldout_fraction"]):
            continue
        at, place = state["reading"], (shard_paths(home).index(home / "documents" / shard), line)
        begun = place < (at["shard"], at["line"])
        partly = place == (at["shard"], at["line"]) and at["offset"] > 0
        times = {"least": at["epoch"] + begun, "most": at["epoch"] + (begun or partly)}
        found.append({"step": training.name, "steps": state["step"], **times})
    return found


def _steps(home: Path) -> int:
    """The last step that a training has logged."""
    log = home / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0
