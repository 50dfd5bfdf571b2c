"""What a person sees while a run goes: a live table on a terminal, otherwise a line now and then."""

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from typing_extensions import Self

from llmhpc.files import read_json
from llmhpc.planning.plan import Step

LINE_EVERY_S = 10.0
STYLES = {"done": "green", "running": "cyan", "failed": "bold red", "queued": "yellow"}


class Display:
    """Shows the state of every step; use as a context manager."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.live = (
            Live(console=self.console, refresh_per_second=4) if sys.stdout.isatty() else None
        )
        self.words: dict[Path, str] = {}
        self.last_line: dict[Path, float] = {}
        self.begun = time.monotonic()

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def show(self, states: list[tuple[Step, str]], *, final: bool = False) -> None:
        """``states``: every step of the run and its line."""
        if self.live:
            self.live.update(
                Group(*(self._text(n, *state, states) for n, state in enumerate(states, 1)))
            )
            return
        now = time.monotonic()
        for number, (step, line) in enumerate(states, 1):
            word, key = line.split(":")[0], step.out
            due = word == "running" and now - self.last_line.get(key, 0) >= LINE_EVERY_S
            if word != self.words.get(key) and (key in self.words or word != "to run") or due:
                self.words[key], self.last_line[key] = word, now
                self.console.print(self._text(number, step, line, states))
            self.words.setdefault(key, word)

    def _text(self, number: int, step: Step, line: str, states: list[tuple[Step, str]]) -> Text:
        style = STYLES.get(line.split(":")[0], "dim")
        elapsed = time.monotonic() - self.begun
        clock = f"{int(elapsed // 60):3d}:{int(elapsed % 60):02d}"
        names = [other.name for other, _ in states]
        name = step.out.name if names.count(step.name) > 1 else step.name
        return Text(f"{clock} [{number}/{len(states)}] {name:10} {line}", style=style)


def results(steps: list[Step]) -> list[str]:
    """The lines that name what a person will look at: verdicts, the report, the final checkpoint.

    Remarks come first."""
    remarks, lines = [], []
    for step in steps:
        manifest = read_json(step.out / "manifest.json") or {"counts": {}}
        if said := remark(manifest["counts"]):
            remarks.append(f"{step.out.name:16}  {said}")
        if exports := read_json(step.out / "exports.json"):
            what = "picked" if (step.out / "pick.json").exists() else "final"
            lines.append(f"{f'{what} checkpoint':16}  {step.out / exports[-1]['path']}")
        for pair in read_json(step.out / "verdict.json") or []:
            lines.append(f"verdict           {pair['sentence']}")
        if (step.out / "report.html").exists():
            lines.append(f"report            {step.out / 'report.html'}")
    return remarks + lines


def remark(counts: dict[str, Any]) -> str:
    """What a person should know of a step that is done; "" for most."""
    if lost := counts.get("prompts_truncated"):
        return (
            f"{lost:,} prompts lost their beginning, as they are longer than the model's positions"
        )
    return ""
