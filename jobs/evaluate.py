"""Score every exported checkpoint on every task: in one process, or in an array over checkpoints and tasks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import NOT_IDENTITY, Footprint, Phase, Stage, at_least
from llmhpc.errors import ConfigError
from llmhpc.evals.tasks import EvalTask
from llmhpc.task import Task

PREVIEW = "preview"  # a look while training goes on is one process's
PROCESS_GB = 0.7  # of a node's memory, beside the model
BATCH_GB = 2.0  # of a GPU's
ITEM_BYTES = 2_000  # a question, and what is kept of the answers to it


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """What is asked of each checkpoint; the same items for all of them."""

    roles: ClassVar[dict[str, str]] = {
        "model": "a step that writes exports.json and exports/",
        "tokens": "the step that writes heldout/documents.jsonl.zst",
    }
    early: ClassVar[dict[str, str]] = {"model": "exports.json"}

    kind: str = "evaluate"
    tasks: dict[str, EvalTask] = field(default_factory=dict)
    # positions of a batch, padding included; 0: 1,024 on a CPU, where their numbers stay in the cache, 16,384 on a GPU
    batch_tokens: int = field(default=0, metadata=NOT_IDENTITY)
    ranks: int = field(default=1, metadata=NOT_IDENTITY)  # array tasks; the scores are the same
    dp: int = field(
        default=1, metadata=NOT_IDENTITY
    )  # copies of the model that share a task's work
    tp: int = field(default=1, metadata=NOT_IDENTITY)  # processes that hold a copy together

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name, least in (("batch_tokens", 0), ("dp", 1), ("tp", 1)):
            at_least(self, name, least)
        if self.ranks > 1 and self.processes() > 1:
            raise ConfigError(f"ranks={self.ranks}: 1, with dp={self.dp} x tp={self.tp} processes")
        self.resources.check_processes(self.processes(), f"dp x tp = {self.dp} x {self.tp}")
        if not self.tasks:
            raise ConfigError("tasks: at least one; conf/task/ has some, as in +task@tasks.x=x")

    def optional_roles(self) -> dict[str, str]:
        """What a model was trained on."""
        return {"documents": "a step that writes documents/, of which tasks may ask facts"}

    def processes(self) -> int:
        """Of the one task there is then."""
        return self.dp * self.tp

    def phases(self) -> list[Phase]:
        """One task for all, or questions, answers, scores."""
        if self.ranks == 1:
            return [Phase("main", 1)]
        return [Phase("ask", 1), Phase("score", self.ranks), Phase("gather", 1)]

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError if the model cannot be cut so, or what a task asks could be longer than its positions."""
        heads = getattr(getattr(played_by["model"], "model", None), "kv_heads", self.tp)
        if heads % self.tp:
            raise ConfigError(f"tp={self.tp}: a divisor of the model's kv_heads={heads}")
        schedule = getattr(played_by["model"], "schedule", None)
        for name, task in self.tasks.items():
            try:
                if schedule is not None:
                    task.check_length(schedule.sequence_length)
            except ConfigError as error:
                raise ConfigError(f"tasks.{name}.{error}") from None

    def memory_gb(self, played_by: dict[str, Stage]) -> tuple[float, float]:
        """The weights that its processes on a node hold, and Python; what a batch takes is little beside them."""
        train: Any = played_by["model"]
        if not hasattr(train, "model"):
            return 0.0, 0.0
        weights = train.model.parameters() / 1e9 / self.tp
        processes = self.processes() // self.resources.nodes
        if not self.resources.gpus_per_node:
            return processes * (4 * weights + PROCESS_GB), 0.0
        each = weights * (2 if train.schedule.precision.value == "bfloat16" else 4)
        return processes * (each + PROCESS_GB), each + BATCH_GB

    def settle(self) -> None:
        """Note what files of the tasks hold."""
        for task in self.tasks.values():
            task.settle()

    def before_launch(self) -> None:
        """Raise ConfigError if a file of a task is not there or wrong."""
        for name, task in self.tasks.items():
            try:
                task.before_launch()
            except ConfigError as error:
                raise ConfigError(f"tasks.{name}.{error}") from None

    def will_write(self, input_bytes: int) -> Footprint:
        """The questions, and a record of each for every checkpoint: four, where nobody knows how many."""
        items = sum(min(task.items, 1000) for task in self.tasks.values())
        return Footprint(5 * items * ITEM_BYTES, 12 + 2 * len(self.tasks))


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write tasks/, scores.jsonl, domains.jsonl, scores/, items/, what the letters show, and what a model card takes."""
    from llmhpc.evals import evaluation, items
    from llmhpc.evals.judging import tables
    from llmhpc.evals.models import places
    from llmhpc.evals.models.exports import find_exports
    from llmhpc.evals.tasks import Material

    whole = task.phase not in ("ask", "score", "gather")
    exports = find_exports(inputs["model"])
    counts: dict[str, Any] = {}
    kept = task.home / "work" / "answers"
    if whole or task.phase == "ask":
        documents = inputs["documents"] / "documents" if "documents" in inputs else None
        heldout = inputs["tokens"] / "heldout" / "documents.jsonl.zst"
        left_out = evaluation.ask(cfg.tasks, Material(heldout, documents), out / "tasks")
        if left_out:
            counts["left_out"] = left_out
        if not whole:
            return counts
    asked = items.read((out if whole else task.home) / "tasks")
    if whole or task.phase == "score":
        mine = evaluation.share(evaluation.units(exports, asked), task.rank, task.ranks)
        dp, tp = (1, 1) if task.phase == PREVIEW else (cfg.dp, cfg.tp)
        with places.taken(dp, tp, cfg.resources, task.home / "work") as place:
            evaluation.score(
                mine,
                kept,
                task.home.parent,
                cfg.batch_tokens,
                place,
                lambda done, total, note: task.progress(done, total, "items", note),
            )
        if not whole or task.process != 0:
            return {}
    last = evaluation.gather(exports, asked, kept, out)
    tables.write(out, last, inputs["model"].name)
    return counts | {
        "checkpoints": len(exports),
        "items": sum(len(each.items) for each in asked),
        "prompts_truncated": sum(line["truncated"] for line in last if line["headline"]),
        "final": {
            f"{line['task']}.{line['form']}": line["value"] for line in last if line["headline"]
        },
    }
