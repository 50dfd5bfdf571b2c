"""Whether the best learning rate of a slim network is the best of a wide one, with muP and without.

    python -m benchmarks.mup [--steps 150] [--rates 0.001 0.002 0.004] [--json]

Two layers, heads of 64, widths of 128 and 512, base width 128; initialization by width. Every training reads the same bytes
of the standard library's sources, in float32 on one core (16 minutes), and none twice; its loss (nats per byte) is the mean over the last
tenth of its steps. A best rate at the edge of the grid says nothing: --rates takes others.
"""

import argparse
import json
import statistics
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.config import Resources
from llmhpc.models.llama import Config as Llama
from llmhpc.processes import Place, joined
from llmhpc.train.data import Rows
from llmhpc.train.engine import Engine
from llmhpc.train.settings import Parallel, Schedule

BASE, WIDTHS = 128, (128, 512)
HEAD = 64
RATES = [2.0**power for power in range(-11, -5)]
BATCH, LENGTH = 8, 128
END_SHARE = 10  # the loss is that of the last 10th of the steps


def main() -> None:
    """Print a line for each rate and the best rates, and JSON if asked for."""
    options = _options()
    batches = _batches(options.steps)
    lines = {
        f"{width} {'muP' if base else 'standard'}": _model(width, base)
        for base in (BASE, 0)
        for width in WIDTHS
    }
    losses: dict[str, dict[float, float]] = {name: {} for name in lines}
    _say("rate      " + "".join(f"{name:>14}" for name in lines) + "   CPU s")
    with (
        tempfile.TemporaryDirectory() as folder,
        joined(1, Resources(cpus=1), Path(folder)) as place,
    ):
        for rate in sorted(options.rates):
            begun = time.process_time()
            for name, model in lines.items():
                losses[name][rate] = _loss(model, rate, batches, place)
            row = "".join(f"{losses[name][rate]:14.3f}" for name in lines)
            _say(f"{rate:<10.4g}{row}{time.process_time() - begun:8.0f}")
    best = {name: min(own, key=lambda rate: own[rate]) for name, own in losses.items()}
    for name, rate in best.items():
        edge = ", the edge of the grid" if rate in (min(options.rates), max(options.rates)) else ""
        _say(f"{name:14} best rate {rate:.4g}, loss {losses[name][rate]:.3f}{edge}")
    for kind in ("muP", "standard"):
        slim, wide = (best[f"{width} {kind}"] for width in WIDTHS)
        _say(f"{kind}: the best rate {'is the same' if slim == wide else 'is NOT the same'}")
    if options.json:
        print(json.dumps({"steps": options.steps, "losses": losses, "best": best}))


def _model(width: int, base: int) -> Llama:
    heads = width // HEAD
    shape: dict[str, Any] = {"hidden_size": width, "heads": heads, "kv_heads": heads}
    shape |= {"layers": 2, "intermediate_size": 3 * width, "vocab_size": 256}
    return Llama(**shape, init_std=0.0, mup_base_width=base)


def _batches(steps: int) -> list[list[Rows]]:
    """Stretches of the sources in a drawn order, of which no two overlap."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = np.frombuffer(b"".join(path.read_bytes() for path in files), dtype=np.uint8)
    wanted, there = steps * BATCH, (len(text) - 1) // (LENGTH + 1)
    if wanted > there:
        raise SystemExit(f"--steps {steps}: at most {there // BATCH}, so long are the sources")
    places = np.random.default_rng(0).permutation(there)[:wanted]
    rows = text[: there * (LENGTH + 1)].reshape(there, -1)[places].astype(np.int64)
    weights = np.ones((BATCH, LENGTH), dtype=np.float32)
    return [[Rows(part, weights)] for part in rows.reshape(steps, BATCH, -1)]


def _loss(model: Llama, rate: float, batches: list[list[Rows]], place: Place) -> float:
    steps = len(batches)
    schedule = Schedule(
        steps=steps,
        warmup_steps=steps // 10,
        global_batch=BATCH,
        sequence_length=LENGTH,
        lr=rate,
        min_lr=rate / 10,
    )
    engine = Engine(model, Parallel(micro_batch=BATCH), schedule, seed=0, place=place)
    losses = [
        engine.step(rows, schedule.learning_rate(step)).loss for step, rows in enumerate(batches, 1)
    ]
    return statistics.fmean(losses[-max(1, steps // END_SHARE) :])


def _say(line: str) -> None:
    print(line, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
