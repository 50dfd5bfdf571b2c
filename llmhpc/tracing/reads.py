"""How often training has read some tokens."""

import json
from pathlib import Path
from typing import Any

from llmhpc.config import Stage
from llmhpc.planning.registry import revive
from llmhpc.tokens.reader import TokenFiles
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
        least, most = batches.times_read(start, stop, steps)
        found.append({"step": training.name, "steps": steps, "least": least, "most": most})
    return found


def _steps(home: Path) -> int:
    """The last step that a training has logged."""
    log = home / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    return json.loads(whole[-1])["step"] if whole else 0
