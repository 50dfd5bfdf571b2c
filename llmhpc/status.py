"""How far a run is: python -m llmhpc.status [ROOT] [--run WORDS] [--watch] [--failed] [--sacct] [--json].

The newest launch below ROOT (default: runs), or the newest whose name holds WORDS. "queued h": hours in which Slurm's
queue alone kept a step from going on; "h/B tokens": GPU-hours (CPU-hours without GPUs) for a billion tokens.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from llmhpc import scheduler
from llmhpc import step as node
from llmhpc.display import STYLES, remark
from llmhpc.errors import ConfigError, StageError, denied_in_one_line
from llmhpc.files import read_json
from llmhpc.handoff import artifact, claim, ledger, runs
from llmhpc.handoff.state import FAILED, QUEUED, RUNNING, TO_RUN, state_of

PIPE_WIDTH = 200
TITLES = ("step", "state", "seconds", "attempts", "queued h", "CPU-h", "GPU-h", "h/B tokens")
WATCH_EVERY_S = 10  # of a scheduler that others use too


def rows(launch: Path) -> list[dict[str, Any]]:
    """Every step of a launch: name, state, note, log, out, seconds, counts, cost; Slurm is asked once."""
    record = runs.read(launch)
    homes = [Path(step["out"]) for step in record["steps"]]
    queue = _queue([home for home in homes if not artifact.sealed(home)])
    found = []
    for step, home in zip(record["steps"], homes, strict=True):
        own = step.get("points", [])
        points = (
            own if len(own) < len(record["points"]) else []
        )  # of a sweep, where not shared by all
        copy = {"points": points, "seed": step.get("seed")}  # a seed where there are several
        found.append(_row(step["name"], home, queue) | copy)
    return found


def _queue(homes: list[Path]) -> claim.Queue:
    """What Slurm says of the jobs; where it does not answer they are taken for running."""
    noted = [jobs for home in homes if (jobs := read_json(home / artifact.JOBS))]
    try:
        return scheduler.jobs(job for jobs in noted for job in claim.job_ids(jobs))
    except StageError as error:
        print(f"llmhpc: {error}; jobs may have ended", file=sys.stderr)
        return {key: scheduler.UNKNOWN for jobs in noted for key in claim.task_keys(jobs)}


def _row(name: str, home: Path, queue: claim.Queue) -> dict[str, Any]:
    manifest = read_json(home / artifact.MANIFEST) or {}
    row: dict[str, Any] = {"name": name, "state": TO_RUN, "note": "", "log": "", "out": str(home)}
    if (home / artifact.STEP).exists():
        state = state_of(home, node.stage_of(home).phases(), queue)
        row |= {"state": state.word, "note": state.note, "log": state.log}
    row |= {"seconds": manifest.get("seconds"), "counts": manifest.get("counts")}
    cost = ledger.of_step(home)
    counts = row["counts"] or {}
    trained_here = counts.get("tokens", 0) - counts.get("tokens_before", 0)
    tokens = trained_here or _tokens_so_far(home)
    return row | {"cost": cost._asdict(), "per_billion_tokens": ledger.per_billion(cost, tokens)}


def _tokens_so_far(home: Path) -> float:
    """Tokens that a model has been trained on in a step that goes on."""
    if not (home / artifact.STEP).exists() or not (total := node.stage_of(home).tokens()):
        return 0.0
    progress = read_json(home / artifact.PROGRESS / "main-00000.json")
    return total * progress["done"] / progress["total"] if progress else 0.0


def _table(found: list[dict[str, Any]], said: list[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    names = [row["name"] for row in found]
    for title in TITLES:
        table.add_column(title, justify="right", no_wrap=True, overflow="fold")
    table.columns[0].justify = table.columns[1].justify = "left"
    table.add_column("", overflow="fold")
    for row in found:
        cost = ledger.Cost(**row["cost"])
        failed = f" ({cost.failed} failed)" if cost.failed else ""
        seed = [] if row["seed"] is None else [f"seed {row['seed']}"]
        which = "; ".join([*row["points"], *seed])
        note = f"[{which}] " if which else ""
        note += row["note"] or row["out"]
        if remarkable := remark(row["counts"] or {}):
            note += f"\n{remarkable}"
        if row["state"] == FAILED:
            note += f"\nlog: {row['log'] or Path(row['out']) / artifact.LOGS}"
        table.add_row(
            row["name"] if names.count(row["name"]) == 1 else Path(row["out"]).name,
            Text(row["state"], STYLES.get(row["state"], "dim")),
            _number(row["seconds"], 1),
            f"{cost.attempts}{failed}" if cost.attempts else "",
            *(_number(value) for value in (cost.waiting_hours, cost.cpu_hours, cost.gpu_hours)),
            _number(
                (row["per_billion_tokens"] or {}).get(
                    "gpu_hours" if cost.gpu_hours else "cpu_hours"
                )
            ),
            Text(note),
        )
    table.caption = "\n".join(said)
    table.caption_justify = "left"
    return table


def _number(value: float | None, digits: int = 2) -> str:
    return f"{value:,.{digits}f}" if value else ""


def _summary(launch: Path, found: list[dict[str, Any]], *, check: bool) -> list[str]:
    """What the run has cost, what Slurm's accounting says of that, and how it ended, a line each."""
    total = sum((ledger.Cost(**row["cost"]) for row in found), ledger.Cost())
    held = f"{total.cpu_hours:,.2f} CPU-hours, {total.gpu_hours:,.2f} GPU-hours, {total.goodput:.0%} useful"
    lines = [f"{held}, {total.waiting_hours:,.2f} hours in the queue"]
    if check:
        counted = ledger.by_slurm(Path(row["out"]) for row in found)
        lines.append(
            f"sacct counts {counted:,.2f} CPU-hours for the same tasks"
            if counted is not None
            else "sacct: there is no accounting to check this with"
        )
    record = runs.read(launch)
    if record.get("why"):
        lines.append(f"{record['ended']}: {record['why']}")
    return lines


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 if a step failed, 2 if there is no run."""
    parser = argparse.ArgumentParser(prog="python -m llmhpc.status", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--run", default="", metavar="WORDS", help="part of a launch's name")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--failed", action="store_true", help="only the steps that failed")
    parser.add_argument(
        "--sacct", action="store_true", help="check the cost with Slurm's accounting"
    )
    parser.add_argument("--watch", action="store_true", help="again and again, until nothing runs")
    options = parser.parse_args(arguments)
    try:
        launch = runs.find(options.root, options.run)
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 2
    found = _watch(launch, failed=options.failed) if options.watch else rows(launch)
    shown = _shown(found, failed=options.failed)
    if options.json:
        print(json.dumps(shown, indent=1))
    elif not options.watch:
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        said = _summary(launch, found, check=options.sacct)
        Console(highlight=False, width=width).print(_table(shown, said))
    return int(any(row["state"] == FAILED for row in found))


def _shown(found: list[dict[str, Any]], *, failed: bool) -> list[dict[str, Any]]:
    return [row for row in found if row["state"] == FAILED or not failed]


def _watch(launch: Path, *, failed: bool) -> list[dict[str, Any]]:
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            found = rows(launch)
            said = _summary(launch, found, check=False)
            live.update(_table(_shown(found, failed=failed), said), refresh=True)
            if not {RUNNING, QUEUED} & {row["state"] for row in found}:
                return found
            time.sleep(WATCH_EVERY_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
