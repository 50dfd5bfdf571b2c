"""Score every exported checkpoint on the held-out documents: bits per byte, and which text continues."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import NOT_IDENTITY, Footprint, Stage, at_least
from llmhpc.errors import ConfigError
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """How much is asked of each checkpoint; the same items for all of them."""

    roles: ClassVar[dict[str, str]] = {
        "model": "a step that writes exports.json and exports/",
        "tokens": "the step that writes heldout/documents.jsonl.zst",
    }

    early: ClassVar[dict[str, str]] = {"model": "exports.json"}

    kind: str = "evaluate"
    items: int = 250  # four-way questions at most: 250 give a standard error of about 0.03
    items_min: int = 40  # with fewer the standard error is above 0.07, and the step fails
    context_bytes: int = 256  # text shown of a question, at least; at most twice that
    continuation_bytes: int = 64  # text of a choice, likewise
    heldout_bytes: int = 80_000  # of all held-out documents together, an equal share from each
    batch_tokens: int = field(default=4096, metadata=NOT_IDENTITY)  # padding included

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        names = ("items", "items_min", "context_bytes", "continuation_bytes", "heldout_bytes")
        for name in (*names, "batch_tokens"):
            at_least(self, name, 1)
        if self.items_min > self.items:
            raise ConfigError(f"items_min={self.items_min}: items={self.items} or fewer")
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, one process scores all checkpoints")

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError if a choice could be longer than the model's positions: a byte can be a token."""
        schedule = getattr(played_by["model"], "schedule", None)
        if schedule is not None and 2 * self.continuation_bytes > schedule.sequence_length:
            raise ConfigError(
                f"continuation_bytes={self.continuation_bytes}: {schedule.sequence_length // 2} or less,"
                f" half of the model's positions (schedule.sequence_length={schedule.sequence_length})"
            )

    def will_write(self, input_bytes: int) -> Footprint:
        """The questions and the held-out texts; scores are small beside them."""
        question = 2 * self.context_bytes + 4 * self.continuation_bytes
        return Footprint(self.items * question + self.heldout_bytes, 4)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write scores.jsonl, items.parquet and the questions under tasks/."""
    import tempfile

    from llmhpc.evals import results, runner
    from llmhpc.evals.continuation import make_items
    from llmhpc.evals.exports import find_exports
    from llmhpc.evals.heldout import cut_to_budget, read_documents

    exports = find_exports(inputs["model"])
    documents = read_documents(inputs["tokens"] / "heldout" / "documents.jsonl.zst")
    items = make_items(
        documents, cfg.items, cfg.context_bytes, cfg.continuation_bytes, cfg.items_min
    )
    texts = [document._asdict() for document in cut_to_budget(documents, cfg.heldout_bytes)]
    results.write_rows(out / "tasks" / "continuation", items)
    results.write_rows(out / "tasks" / "heldout", texts)

    each, total, note = len(items) + len(texts), (len(items) + len(texts)) * len(exports), "loading"
    task.progress(0, total, "items", note)
    lines: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        for place, export in enumerate(exports):

            def progress(done: int, before: int = place * each, note: str = note) -> None:
                task.progress(before + done, total, "items", note)

            scores, answers = runner.evaluate_once(
                export, out / "tasks", Path(scratch), cfg.batch_tokens, task.home / "work", progress
            )
            note = runner.summary(scores)
            task.progress((place + 1) * each, total, "items", note)
            lines += scores
            records += answers
    results.write_scores(out / "scores.jsonl", lines)
    results.write_items(out / "items.parquet", records)
    final = runner.headline(scores)
    return {
        "checkpoints": len(exports),
        "items": len(items),
        "contexts_truncated": sum(record["truncated"] > 0 for record in answers),
        "continuation_final": final["continuation"]["value"],
        "heldout_bits_per_byte_final": final["heldout"]["value"],
    }
