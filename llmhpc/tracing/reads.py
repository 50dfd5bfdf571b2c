"""How often training has read some tokens, or a document."""

import json
from bisect import bisect_right
from pathlib import Path
from typing import Any

from llmhpc.tokens.encode import is_heldout
from llmhpc.tokens.shards import shard_paths
from llmhpc.tracing.checkpoint import Checkpoint, batches_of, newest_of, reading, roles_of
from llmhpc.tracing.flow import Flow, Node
from llmhpc.train.data import Batches

FIRST_STEPS = 8  # of those that read a document so many are told


def times_read(
    flow: Flow, node: Node, start: int, stop: int, at: Checkpoint | None
) -> list[dict[str, Any]]:
    """For each training on the tokens of ``node``: its steps so far, how often they read start to stop, and when first.

    ``at``: that training as it was then, and no other.
    """
    found = []
    for training in [at.training] if at else flow.of_kind("train"):
        roles = [role for role in roles_of(training) if training.inputs[role] == node.home]
        if not roles or not (steps := at.step if at else _steps(training.home)):
            continue
        batches = batches_of(training, at)
        times = [batches.times_read(role, start, stop, steps) for role in roles]
        least, most = map(sum, zip(*times, strict=True))
        first = {step for role in roles for step in first_steps(batches, role, start, stop, steps)}
        told = {"step": training.name, "steps": steps, "least": least, "most": most}
        found.append(told | {"first": sorted(first)[:FIRST_STEPS]})
    return found


def first_steps(batches: Batches, role: str, start: int, stop: int, steps: int) -> list[int]:
    """The first FIRST_STEPS of the steps that read some of the tokens of one document, rising."""
    source = batches.sources[role]
    drawn = batches.before(batches.stretches(steps)[-1][1])[role]
    holding = source.sequences.of_tokens(start, stop)
    holding = holding[holding < source.count]
    found: set[int] = set()
    for epoch in range(-(-drawn // source.count) if len(holding) else 0):
        indices = source.sequences.index_in(source.seed, epoch, holding) + epoch * source.count
        for index in indices[indices < drawn].tolist():
            # of all steps the first behind which more than ``index`` sequences of the source are drawn
            behind = range(2, steps + 2)
            step = 1 + bisect_right(
                behind, index, key=lambda step: batches.before(batches.first(step))[role]
            )
            end = batches.first(step) + batches.schedule.batch(step)
            if index < batches.before(end)[role]:  # else it was left out behind the step
                found.add(step)
        if len(found) >= FIRST_STEPS:
            break
    return sorted(found)[:FIRST_STEPS]


def times_streamed(
    flow: Flow, home: Path, shard: str, line: int, identity: str, at: Checkpoint | None
) -> list[dict[str, Any]]:
    """How often trainings on the text of the step in ``home`` read a document, as of their newest checkpoint."""
    found = []
    for training in [at.training] if at else flow.of_kind("train"):
        if training.inputs.get("documents") != home:
            continue
        newest = at or newest_of(training)
        if newest is None or is_heldout(identity, training.config["heldout_fraction"]):
            continue
        where = reading(newest)
        place = (shard_paths(home).index(home / "documents" / shard), line)
        begun = place < (where["shard"], where["line"])
        partly = place == (where["shard"], where["line"]) and where["offset"] > 0
        times = {"least": where["epoch"] + begun, "most": where["epoch"] + (begun or partly)}
        found.append({"step": training.name, "steps": newest.step, **times})
    return found


def _steps(home: Path) -> int:
    """The last step that a training has logged."""
    log = home / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0
