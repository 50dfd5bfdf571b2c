"""FLOPs, MFU, memory, what is waited for, and the line about the layout."""

import time

import pytest
import torch

from llmhpc.models.llama import Config as Llama
from llmhpc.train import layout
from llmhpc.train.settings import Parallel, Precision, Schedule
from llmhpc.train.speed import Speed, memory_peak, peak_flops
from llmhpc.train.waits import Communication

HALF, SINGLE = Precision.bfloat16, Precision.float32


def test_the_flops_of_gpt_3_are_those_of_its_paper():
    """3.14e23 for 300 billion tokens (Brown et al. 2020, arXiv:2005.14165, table D.1), which leaves attention out."""
    heads, width = 96, 12288
    gpt_3 = Llama(
        vocab_size=50257,
        hidden_size=width,
        layers=96,
        heads=heads,
        kv_heads=heads,
        intermediate_size=8 * width // 3,  # three matrices of it are two of 4 x width
    )
    attention = 12 * 96 * width * 2048
    assert (gpt_3.flops_per_token(2048) - attention) * 300e9 == pytest.approx(3.14e23, rel=0.01)


def test_flops_are_six_for_each_weight_and_attention():
    model = Llama(vocab_size=100, hidden_size=8, layers=2, heads=2, kv_heads=1, intermediate_size=5)
    layer = 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 5
    assert model.flops_per_token(16) == 6 * (2 * layer + 100 * 8) + 12 * 2 * 8 * 16


@pytest.mark.parametrize(
    ("device", "precision", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", HALF, 989.5),
        ("NVIDIA H100 PCIe", HALF, 756.5),
        ("NVIDIA H200", HALF, 989.5),
        ("NVIDIA A100-SXM4-80GB", HALF, 312),
        ("NVIDIA A100-SXM4-80GB", SINGLE, 19.5),
        ("NVIDIA A10", HALF, 125),
    ],
)
def test_a_device_is_known_by_its_name(device, precision, tera):
    assert peak_flops(device, precision) == pytest.approx(1e12 * tera)


def test_a_device_that_is_not_known_has_no_peak_and_a_cpu_no_mfu():
    assert peak_flops("NVIDIA H20", HALF) is None
    assert Speed(2.0, None, 0).values(tokens=10, seconds=5, per_second=2) == {"flops": 20.0}


def test_mfu_is_the_share_of_the_peak_of_all_devices():
    """Half of 4 x 100 FLOP/s: 50 tokens a second of 4 FLOPs each."""
    values = Speed(4.0, 400.0, 4).values(tokens=1000, seconds=1800, per_second=50)
    assert values == {"flops": 4000.0, "gpu_hours": 2.0, "mfu": 0.5}


def test_the_memory_peak_of_a_process_grows_with_what_it_holds():
    before = memory_peak(torch.device("cpu"))
    held = torch.ones(int(before) // 4 + 25_000_000)
    assert memory_peak(torch.device("cpu")) >= before + 50e6
    del held


def test_the_bubble_is_what_no_micro_batch_fills():
    assert layout.bubble(Parallel(), 4) == 0
    assert layout.bubble(Parallel(pp=4), 12) == pytest.approx(3 / 15)


def test_the_layout_in_a_line():
    model = Llama(vocab_size=128, hidden_size=64, layers=4, intermediate_size=96)
    parallel, schedule = Parallel(dp=2, pp=2, micro_batch=2, zero_stage=1), Schedule()
    said = layout.line(model, parallel, schedule, gpu=True)
    assert said.startswith(
        "layout: dp 2 x tp 1 x pp 2 = 4, ZeRO-1; 4 micro-batches of 2 x 256 tokens"
    )
    assert "(weights " in said and "activations " in said
    assert said.endswith("pipeline bubble 20.0%")


def test_metrics_have_flops_memory_and_waits(runs, single):
    records = runs.records(single)
    model = runs.settings().model
    for record in records:
        assert record["flops"] == model.flops_per_token(32) * record["tokens"]
        assert record["memory_gb"] > 0.05
        assert record["data_wait_s"] >= 0
        assert 0 <= record["communication_share"] <= 1
    assert (single / "layout.json").read_text().count("pipeline bubble 0.0%") == 1


def test_the_share_of_communication_is_that_of_the_step():
    communication = Communication(torch.device("cpu"))
    sleep = communication.timed(time.sleep)
    sleep(0.1)  # no step
    communication.begin(measured=True)
    sleep(0.1)
    time.sleep(0.1)
    communication.end()
    assert communication.share == pytest.approx(0.5, abs=0.2)
    communication.begin(measured=False)
    sleep(0.01)
    communication.end()
    assert communication.share == pytest.approx(0.5, abs=0.2), "that of the last one measured"


def test_a_step_asks_the_device_for_numbers_once(inputs):
    """``.item()`` and ``.tolist()``, and whatever else makes the host wait, of a whole step."""
    import numpy as np
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    from llmhpc.config import Resources
    from llmhpc.processes import joined
    from llmhpc.train.data import Rows
    from llmhpc.train.engine import Engine

    asked: list[str] = []

    class Calls(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function.__name__ in ("item", "tolist", "__bool__", "__int__", "__float__"):
                asked.append(function.__name__)
            return function(*args, **(kwargs or {}))

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "_local_scalar_dense" in str(function) or "nonzero" in str(function):
                asked.append(str(function))
            return function(*args, **(kwargs or {}))

    model = Llama(vocab_size=128, hidden_size=32, layers=2, intermediate_size=48)
    rows = [Rows(np.full((1, 17), 5), np.ones((1, 16), dtype=np.float32)) for _ in range(2)]
    schedule = Schedule(steps=3, global_batch=2, sequence_length=16, warmup_steps=0)
    with joined(1, Resources(), None) as place:
        engine = Engine(model, Parallel(micro_batch=1), schedule, seed=0, place=place)
        engine.step(rows, 1e-3)
        with Calls(), Operators():
            engine.step(rows, 1e-3)
    assert asked == ["tolist"]
