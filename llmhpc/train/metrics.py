"""What training says of itself: metrics.jsonl, TensorBoard and the progress line. Process 0 only."""

import json
import os
import time
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from llmhpc.task import Task
from llmhpc.train.settings import Schedule

JSONL = "metrics.jsonl"
TENSORBOARD = "tensorboard"


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last one that a kill cut short is left out."""
    path = out / JSONL
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class Metrics:
    """Records of logged steps. Those beyond ``resumed_step`` are dropped: these steps are made again."""

    def __init__(self, out: Path, task: Task, *, schedule: Schedule, resumed_step: int) -> None:
        self.task, self.schedule = task, schedule
        kept = [record for record in read_metrics(out) if record["step"] <= resumed_step]
        partial = out / f".{JSONL}.partial"
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(out / JSONL)
        self.file = (out / JSONL).open("a")
        self.board = SummaryWriter(str(out / TENSORBOARD), purge_step=resumed_step + 1)
        self.seconds_before = kept[-1]["seconds"] if kept else 0.0
        self.started = self.last_time = time.monotonic()
        self.last_step = resumed_step

    def log(self, *, step: int, **values: float | None) -> None:
        """Write one step's record; None where a value is not finite. Speed is that since the record before, saving
        included."""
        now = time.monotonic()
        tokens = self.schedule.tokens_at(step)
        since = tokens - self.schedule.tokens_at(self.last_step)
        record: dict[str, Any] = {"step": step, "tokens": tokens, **values}
        record["tokens_per_second"] = round(since / (now - self.last_time), 1)
        record["seconds"] = round(self.seconds_before + now - self.started, 3)
        self.last_time, self.last_step = now, step
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()
        for name in record.keys() - {"step", "tokens", "seconds"}:
            if record[name] is not None:
                self.board.add_scalar(name, record[name], step)
        speed = record["tokens_per_second"] / 1000
        loss = "not finite" if record["loss"] is None else f"{record['loss']:.2f}"
        note = f"loss {loss}, {speed:.1f}k tokens/s"
        self.task.progress(step, self.schedule.steps, "steps", note=note)

    def sync(self) -> None:
        """Force what was logged to disk; a checkpoint must not be ahead of it."""
        os.fsync(self.file.fileno())
        self.board.flush()

    def close(self) -> None:
        """End of training."""
        self.sync()
        self.file.close()
        self.board.close()
