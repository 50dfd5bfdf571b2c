"""Ring attention equals attention to the whole sequence; its blocks equal the plain ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmhpc.kernels import ring

PROCESS = Path(__file__).with_name("ring_of_processes.py")
VIEWS = {"causal": (True, False), "all": (False, False), "masked": (False, True)}


def test_rings_of_two_and_four_processes_equal_the_reference(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, str(PROCESS), str(rank), str(tmp_path)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(4)
    ]
    ends = [process.communicate(timeout=200) for process in started]
    for process, (out, error) in zip(started, ends, strict=True):
        assert process.returncode == 0, error[-2000:]
        differences = [float(line.split(": ")[1]) for line in out.splitlines()]
        assert len(differences) == 16
        assert max(differences) < 1e-12, out


def two_ways(block, view, *, dtype, device="cpu"):
    """Results and gradients of a block, and of a plain one in float64, of 40 queries and keys."""
    causal, masked = VIEWS[view]
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, 40, 16)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]
    bias = None
    if masked:  # of the first 10 queries the first sequence has no key here
        bias = torch.zeros(2, 1, 40, 40).masked_fill(
            torch.rand(40, generator=generator) < 0.5, -1e30
        )
        bias[0, :, :10] = ring.HIDDEN
    for kind, to in ((ring.Plain, torch.float64), (block, dtype)):
        q, k, v, grad = (x.to(device, to) for x in parts)
        added = None if bias is None else bias.to(device, to)
        out, sums = kind.forward(q, k, v, causal, added)
        total = torch.logaddexp(
            sums, torch.zeros_like(sums)
        )  # another block has a score and value of 0
        out = (out * (sums - total).exp().unsqueeze(-1)).to(to)
        yield out, total, *kind.backward(grad, q, k, v, out, total, causal, added)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("block", [ring.Plain, ring.CpuFlash])
def test_a_block_equals_the_plain_one_in_float64(block, view, monkeypatch):
    expected, got = two_ways(block, view, dtype=torch.float32)
    monkeypatch.setattr(ring, "ROWS", 7)
    short, _ = two_ways(block, view, dtype=torch.float32)
    for one, other, third in zip(expected, got, short, strict=True):
        torch.testing.assert_close(other.double(), one, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(third, one)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("view", VIEWS)
def test_a_block_on_a_gpu_equals_the_plain_one(view):
    _, _, block = ring._block("cuda", torch.bfloat16, 16)
    expected, got = two_ways(block, view, dtype=torch.bfloat16, device="cuda")
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other.double(), one, atol=5e-2, rtol=5e-2)


class OneOf(ring.Ring):
    """A place in a ring, for what needs no others."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [2, 3, 4])
def test_each_token_is_in_one_place_and_each_process_has_as_much_to_do(size):
    tokens = 12
    rings = [OneOf(rank, size) for rank in range(size)]
    places = torch.cat([one.places(tokens) for one in rings])
    assert sorted(places.tolist()) == list(range(size * tokens))
    for one in rings:
        work = []
        for owner in range(size):
            view = ring._view(one, owner, tokens, None, torch.float32)
            keys = one.places(tokens, owner)
            seen = one.places(tokens)[:, None] >= keys
            inside = torch.zeros_like(seen)
            inside[view.rows, view.keys] = True
            assert not (seen & ~inside).any()  # nothing that may be seen is left out
            assert view.causal or (inside == seen).all()
            work.append(int(inside.sum()))
        assert sorted(work) == [tokens * tokens // 2] * (size - 1) + [tokens * tokens]


@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "name", "reason"),
    [
        ("cpu", torch.bfloat16, 64, "flash for CPUs", "torch"),
        ("cuda", torch.bfloat16, 64, "flash", "plain with a document mask"),
        ("cuda", torch.float32, 64, "plain", "half precision, not torch.float32"),
        ("cuda", torch.bfloat16, 12, "plain", "multiples of 8 up to 256, not 12"),
        ("meta", torch.bfloat16, 64, "plain", "needs CUDA"),
    ],
)
def test_the_chooser_says_which_block_and_why(device, dtype, head_dim, name, reason):
    choice = ring.choose(OneOf(0, 2), device, dtype, head_dim)
    assert choice.name == f"ring of 2, {name}"
    assert reason in choice.reason
