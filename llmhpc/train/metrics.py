"""What training says of itself: metrics.jsonl, watch.jsonl, the boards and the progress line. Process 0 only."""

import time
from pathlib import Path
from typing import Any

from llmhpc.task import Task
from llmhpc.train.boards import Boards
from llmhpc.train.lines import Lines, read_lines
from llmhpc.train.settings import Schedule
from llmhpc.train.speed import Speed

JSONL, WATCH = "metrics.jsonl", "watch.jsonl"


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return read_lines(out / JSONL)


class Metrics:
    """Records of logged steps. Those beyond ``resumed_step`` are dropped: these steps are made again."""

    def __init__(
        self,
        out: Path,
        task: Task,
        *,
        schedule: Schedule,
        speed: Speed,
        resumed_step: int,
        watched: bool,
        wandb: bool,
    ) -> None:
        self.task, self.schedule, self.speed = task, schedule, speed
        self.files = [Lines(out / JSONL, resumed_step)]
        if watched or (out / WATCH).exists():
            self.files.append(Lines(out / WATCH, resumed_step))
        self.boards = Boards(out, resumed_step, wandb=wandb)
        kept = self.files[0].kept
        self.seconds_before = kept[-1]["seconds"] if kept else 0.0
        self.started = self.last_time = time.monotonic()
        self.last_step = resumed_step

    def log(self, *, step: int, **values: Any) -> None:
        """Write one step's record; None where a value is not finite. Speed is that since the record before, saving
        included."""
        now = time.monotonic()
        tokens = self.schedule.tokens_at(step)
        since = tokens - self.schedule.tokens_at(self.last_step)
        per_second = since / (now - self.last_time)
        record: dict[str, Any] = {"step": step, "tokens": tokens, **values}
        record["tokens_per_second"] = round(per_second, 1)
        record["seconds"] = round(self.seconds_before + now - self.started, 3)
        record |= self.speed.values(tokens=tokens, seconds=record["seconds"], per_second=per_second)
        self.last_time, self.last_step = now, step
        self.files[0].write(record)
        drawn = record.keys() - {"step", "seconds"}
        self.boards.draw(step, {n: record[n] for n in sorted(drawn) if record[n] is not None})
        speed = per_second / 1000
        loss = "not finite" if record["loss"] is None else f"{record['loss']:.2f}"
        note = f"loss {loss}, {speed:.1f}k tokens/s"
        self.task.progress(step, self.schedule.steps, "steps", note=note)

    def watch(self, step: int, record: dict[str, Any], lines: dict[str, float]) -> None:
        """A record of watch.jsonl, and the same as lines to draw."""
        self.files[1].write({"step": step, "tokens": self.schedule.tokens_at(step), **record})
        self.boards.draw(step, lines)

    def sync(self) -> None:
        """Force what was logged to disk; a checkpoint must not be ahead of it."""
        for file in self.files:
            file.sync()
        self.boards.flush()

    def close(self) -> None:
        """End of training."""
        for file in self.files:
            file.close()
        self.boards.close()
