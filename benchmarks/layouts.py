"""The same training in every layout, cut and gone on with, and gone on with in another layout: how far the losses differ.

    python -m benchmarks.layouts [--json]

20 steps in float32 from the same seed, real processes over gloo on this machine. "resumed" goes on from a checkpoint of
step 10 in the same layout and should differ by nothing; the rest should stay within 1e-5.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed

from benchmarks.train import batches_to_learn
from llmhpc.config import Resources
from llmhpc.models.llama import Config as Llama
from llmhpc.processes import joined
from llmhpc.train import checkpoints
from llmhpc.train.engine import Engine
from llmhpc.train.saver import Saver
from llmhpc.train.settings import Parallel, PipelineOrder, Schedule, TensorMode

BOUND = 1e-5
STEPS, CUT = 20, 10
MODEL = Llama(vocab_size=128, hidden_size=64, layers=4, intermediate_size=96)
SCHEDULE = Schedule(steps=STEPS, global_batch=8, sequence_length=32, warmup_steps=4)
LAYOUTS: dict[str, dict[str, Any]] = {
    "one": {},
    "dp2": {"dp": 2},
    "dp2 zero": {"dp": 2, "zero_stage": 1},
    "dp4 zero": {"dp": 4, "zero_stage": 1},
    "tp2": {"tp": 2},
    "tp2 sequence cut": {"tp": 2, "tp_mode": "REDUCE_SCATTER"},
    "pp2": {"pp": 2},
    "pp2 afab": {"pp": 2, "pp_order": "afab"},
    "pp4": {"pp": 4},
    "dp2 pp2": {"dp": 2, "pp": 2},
    "dp2 tp2 zero": {"dp": 2, "tp": 2, "zero_stage": 1},
    "tp2 pp2 sequence cut": {"tp": 2, "pp": 2, "tp_mode": "REDUCE_SCATTER"},
    "recompute": {"recompute": True},
    "cp2": {"cp": 2},
    "cp4 zero": {"cp": 4, "zero_stage": 1},
    "dp2 cp2 zero": {"dp": 2, "cp": 2, "zero_stage": 1},
    "cp2 tp2 sequence cut": {"cp": 2, "tp": 2, "tp_mode": "REDUCE_SCATTER"},
    "cp2 pp2": {"cp": 2, "pp": 2},
}
RESUMED = ("one", "dp2 zero", "tp2", "pp2", "cp2")
CHANGES = (
    ("one", "dp2"), ("one", "dp4 zero"), ("one", "tp2 sequence cut"), ("one", "pp4"), ("one", "tp2 pp2 sequence cut"),
    ("dp2 zero", "one"), ("dp2 zero", "dp4 zero"), ("dp2 zero", "tp2"), ("tp2", "one"), ("tp2", "pp2"),
    ("pp2", "tp2"), ("pp2", "dp2 zero"), ("dp2 tp2 zero", "pp2"), ("tp2 pp2 sequence cut", "dp2"),
    ("one", "cp4 zero"), ("cp2", "one"), ("cp2", "dp2 cp2 zero"), ("cp4 zero", "cp2"), ("dp2 cp2 zero", "cp2 tp2 sequence cut"),
    ("cp2 pp2", "dp2 zero"),
)  # fmt: skip


def main() -> None:
    """Train all, and print the greatest difference of each."""
    options = _options()
    if options.worker:
        _worker(json.loads(options.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = _all(Path(folder))
    if options.json:
        print(json.dumps(result))


def _all(folder: Path) -> dict[str, dict[str, float]]:
    losses = {
        name: _train(folder / name, layout, first=1, load=None) for name, layout in LAYOUTS.items()
    }
    result: dict[str, dict[str, float]] = {"layouts": {}, "resumed": {}, "changed": {}}
    for name in LAYOUTS:
        _note(result["layouts"], name, losses[name], losses["one"])
    for name in RESUMED:
        again = _train(folder / "again" / name, LAYOUTS[name], first=CUT + 1, load=folder / name)
        _note(result["resumed"], name, again, losses[name][CUT:])
    for before, after in CHANGES:
        name = f"{before} -> {after}"
        again = _train(folder / name, LAYOUTS[after], first=CUT + 1, load=folder / before)
        _note(result["changed"], name, again, losses["one"][CUT:])
    return result


def _note(kind: dict[str, float], name: str, losses: list[float], others: list[float]) -> None:
    kind[name] = max(abs(a - b) for a, b in zip(losses, others, strict=True))
    print(f"{name:40} {kind[name]:.1e}{'' if kind[name] < BOUND else '  beyond 1e-5'}", flush=True)


def _train(out: Path, layout: dict[str, Any], *, first: int, load: Path | None) -> list[float]:
    """Losses from step ``first`` on, in the processes of a layout."""
    settings = {"layout": layout, "first": first, "out": str(out), "load": str(load or "")}
    count = _parallel(layout).processes()
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}",
        "-m", "benchmarks.layouts", "--worker", json.dumps(settings),
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{layout}: {done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("losses"))
    return json.loads(line.partition(" ")[2])


def _parallel(layout: dict[str, Any]) -> Parallel:
    values = dict(layout)
    if "tp_mode" in values:
        values["tp_mode"] = TensorMode(values["tp_mode"])
    if "pp_order" in values:
        values["pp_order"] = PipelineOrder(values["pp_order"])
    return Parallel(micro_batch=2, **values)


def _worker(settings: dict[str, Any]) -> None:
    parallel, out = _parallel(settings["layout"]), Path(settings["out"])
    with joined(parallel.processes(), Resources(cpus=1), out) as place:
        engine = Engine(MODEL, parallel, SCHEDULE, seed=0, place=place)
        saver = Saver(engine, out, "benchmark")
        engine.before_update = saver.before_update
        if settings["load"]:
            engine.load(Path(settings["load"]) / checkpoints.CHECKPOINTS / str(CUT), CUT)
        losses = []
        for step in range(settings["first"], STEPS + 1):
            rows = batches_to_learn(MODEL, Parallel(micro_batch=2), SCHEDULE)[step - 1]
            part = rows[engine.dp_rank :: parallel.dp]
            losses.append(engine.step(part, SCHEDULE.learning_rate(step)).loss)
            if step == CUT:
                state = {"step": step, "updates": step, "model": asdict(MODEL), "reading": {}}
                layout = checkpoints.layout(parallel)
                saver.start(state | {"layout": layout}, lambda seconds: None)
        saver.wait()
        torch.distributed.barrier()  # process 0 keeps the connection open until all are here
        if place.rank == 0:
            print("losses", json.dumps(losses))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
