"""What the engine really allocates: writes the peak of this process's tensors in bytes.

    python peak_memory.py SETTINGS FOLDER    settings as JSON; one process, or one of those that torchrun starts

torch's profiler reports every allocation and release of the CPU's allocator, to the byte. The resident set would also
have what malloc keeps for later.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from torch.profiler import ProfilerActivity, profile

from llmhpc.config import Resources
from llmhpc.models import Model
from llmhpc.planning.registry import revive
from llmhpc.processes import joined
from llmhpc.train.data import Rows
from llmhpc.train.engine import Engine
from llmhpc.train.positions import in_documents
from llmhpc.train.settings import Parallel, Schedule

STEPS = 2  # Adam's moments are there from the end of the first on


def main() -> None:
    settings, peaks = json.loads(sys.argv[1]), Path(sys.argv[2])
    model = revive(Model, settings["model"])
    parallel = revive(Parallel, settings["parallel"])
    schedule = revive(Schedule, settings["schedule"])
    shape = (parallel.micro_batch, schedule.sequence_length + 1)
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, shape)
    positions = in_documents(tokens, 0 if schedule.document_mask else None)
    row = Rows(tokens, np.ones((shape[0], shape[1] - 1), dtype=np.float32), positions)
    memory = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        joined(parallel.processes(), Resources(), Path(folder)) as place,
        memory,
    ):
        engine = Engine(model, parallel, schedule, seed=0, place=place)
        for _ in range(STEPS):
            engine.step([row] * schedule.accumulation(parallel), 1e-3)
    events = [e for e in memory.profiler.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = max(np.cumsum([event.nbytes() for event in events]))
    # a file each: lines of several processes in one stream can run into each other
    (peaks / str(place.rank)).write_text(str(peak))


if __name__ == "__main__":
    main()
