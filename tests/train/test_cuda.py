"""On a GPU: the host waits once in a step, and the metrics know the device."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
GPU = {"gpus_per_node": 1, "gpu_mem_gb": 1}


def test_the_host_waits_for_the_device_once_in_a_step():
    """Torch warns of whatever makes it wait: the numbers at the end, and nothing before them."""
    import warnings

    import numpy as np

    from llmhpc.config import Resources
    from llmhpc.models.llama import Config as Llama
    from llmhpc.processes import joined
    from llmhpc.train.data import Rows
    from llmhpc.train.engine import Engine
    from llmhpc.train.settings import Parallel, Precision, Schedule

    model = Llama(vocab_size=128, hidden_size=64, layers=2, intermediate_size=96)
    rows = [Rows(np.full((1, 65), 5), np.ones((1, 64), dtype=np.float32)) for _ in range(2)]
    schedule = Schedule(
        steps=3, global_batch=2, sequence_length=64, warmup_steps=0, precision=Precision.bfloat16
    )
    with joined(1, Resources(**GPU), None) as place:
        engine = Engine(model, Parallel(micro_batch=1), schedule, seed=0, place=place)
        engine.step(rows, 1e-3)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert engine.step(rows, 1e-3).made
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(one.message) for one in caught if "synchronizing" in str(one.message)]
    assert len(waits) == 1, waits


def test_metrics_have_what_the_device_did(runs, tmp_path):
    from llmhpc.config import Resources

    records = runs.here(tmp_path, resources=Resources(**GPU))
    assert all(record["gpu_hours"] >= 0 and record["memory_gb"] > 0 for record in records)
    assert all(0 <= record["communication_share"] <= 1 for record in records)
