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
from llmhpc.train.data import Batches


def times_read(flow: Flow, node: Node, start: int, stop: int) -> list[dict[str, Any]]:
    """For each training on the tokens of ``node``: its steps so far, and how often they read start to stop."""
    found = []
    for training in flow.of_kind("train"):
        if training.inputs.get("tokens") != node.home or not (steps := _steps(training.home)):
            continue
        schedule = revive(Stage, training.config).schedule
        batches = Batches(TokenFiles(node.home), schedule, training.seed)
        (source,), (drawn,) = batches.sources.values(), batches.drawn_by(steps).values()
        least, most = source.times_read(start, stop, drawn)
        found.append({"step": training.name, "steps": steps, "least": least, "most": most})
    return found


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
