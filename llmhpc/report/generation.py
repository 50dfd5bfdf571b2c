"""Section: what was asked of a model, what it cost in tokens, and how much its texts repeat each other."""

from typing import Any

from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Synthetic documents"
DIVERSITY = "diversity.json"
ROWS = 30  # of an axis: there can be thousands of topics


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """A table for each step that measured how diverse its documents are."""
    steps = [(step, _tables(step)) for step in history.with_file(DIVERSITY) if step.counts]
    return {"steps": steps} if steps else None


def _tables(step: Made) -> dict[str, Any]:
    """All documents, then those of each topic, audience and style; the groups that repeat themselves most first."""
    found = step.json(DIVERSITY)
    rows = [("all", "", found["all"])]
    left_out = 0
    for axis, named in found["by"].items():
        ordered = sorted(named.items(), key=lambda item: -(item[1]["self_similarity"] or 0.0))
        rows += [(name, axis, figures) for name, figures in ordered[:ROWS]]
        left_out += len(ordered[ROWS:])
    return {"sampled": found["sampled"], "rows": rows, "left_out": left_out}
