"""How long training waits for a checkpoint that is saved beside it, against one that it waits for; and how long a restore takes.

    python -m benchmarks.checkpoint [--model llama_4m] [--saves 5] [--json]

Both are saved in turn by one process, with all that a run does: the copy, the writing, the flush to disk, the checksums and
the renaming. Beside the seconds of the stall it says how much slower the steps are that a save goes on beside.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.train import LR, batches_to_learn
from llmhpc.config import Resources
from llmhpc.planning.compose import compose
from llmhpc.processes import joined
from llmhpc.train import checkpoints
from llmhpc.train.engine import Engine
from llmhpc.train.saver import Saver
from llmhpc.train.settings import Parallel, Schedule

GOAL = 0.05  # of a synchronous save
STEPS_BETWEEN = 3


def main() -> None:
    """Print the medians."""
    options = _options()
    model = compose([f"model={options.model}"]).stages["train"].model
    schedule = Schedule(
        steps=options.saves * STEPS_BETWEEN + 1, warmup_steps=0, global_batch=8, sequence_length=256
    )
    parallel = Parallel(micro_batch=4)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        joined(1, Resources(cpus=1), Path(folder)) as place,
    ):
        out = Path(folder) / "run"
        engine = Engine(model, parallel, schedule, seed=0, place=place)
        batches = batches_to_learn(model, parallel, schedule)
        engine.step(batches[0], LR)
        saver = Saver(engine, out, "benchmark")
        engine.before_update = saver.before_update
        state = {"model": asdict(model), "layout": checkpoints.layout(parallel), "reading": {}}
        stalls, waited, beside, alone = [], [], [], []
        for number in range(options.saves):
            begun = time.perf_counter()
            saver.start(state | {"step": 2 * number, "updates": engine.updates}, _nothing)
            saver.wait()
            waited.append(time.perf_counter() - begun)
            before = saver.stalled_s
            saver.start(state | {"step": 2 * number + 1, "updates": engine.updates}, _nothing)
            for turn in range(STEPS_BETWEEN):
                begun = time.perf_counter()
                engine.step(batches[1 + number * STEPS_BETWEEN + turn], LR)
                (beside if turn == 0 else alone).append(time.perf_counter() - begun)
            stalls.append(saver.stalled_s - before)
            saver.wait()
        folder_of_last = out / checkpoints.CHECKPOINTS / str(2 * options.saves - 1)
        begun = time.perf_counter()
        newest, _ = checkpoints.newest(out, rank=0, device=place.device)
        checked = time.perf_counter()
        engine.load(folder_of_last, engine.updates)
        loaded = time.perf_counter()
        size = sum(path.stat().st_size for path in folder_of_last.iterdir())
    assert newest == 2 * options.saves - 1
    result: dict[str, Any] = {
        "model": options.model,
        "bytes": size,
        "synchronous_s": statistics.median(waited),
        "stall_s": statistics.median(stalls),
        "step_s": statistics.median(alone),
        "step_beside_s": statistics.median(beside),
        "check_s": checked - begun,
        "load_s": loaded - checked,
    }
    result["share"] = result["stall_s"] / result["synchronous_s"]
    print(
        f"{options.model}, {size / 1e6:.0f} MB: training waits {1000 * result['stall_s']:.1f} ms for a save that takes "
        f"{1000 * result['synchronous_s']:.0f} ms, {result['share']:.1%}; goal {GOAL:.0%}: "
        f"{'met' if result['share'] <= GOAL else 'NOT met'}"
    )
    print(
        f"a step takes {1000 * result['step_s']:.0f} ms, and {1000 * result['step_beside_s']:.0f} ms while one is saved; "
        f"a restore checks every byte in {1000 * result['check_s']:.0f} ms and reads them in {1000 * result['load_s']:.0f} ms"
    )
    if options.json:
        print(json.dumps(result))


def _nothing(seconds: float) -> None:
    """No export."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="llama_4m")
    parser.add_argument("--saves", type=int, default=5)
    parser.add_argument("--folder", help="where to save; the system's temporary folder if not said")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
