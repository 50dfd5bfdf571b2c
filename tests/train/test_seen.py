"""What a training has seen after some steps is what reading all its steps says."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhpc.tracing import reads
from llmhpc.tracing.checkpoint import documents_seen
from llmhpc.train import packing
from llmhpc.train.settings import Packing

from .test_mixture import Made, lengths, names_of, phases


@pytest.fixture(params=[1 << 17, 3], ids=str)
def blocks(request, monkeypatch):
    """One block, blocks of three documents."""
    monkeypatch.setattr(packing, "BLOCK_DOCUMENTS", request.param)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    seed=st.integers(0, 1000),
    size=st.integers(1, 6),
    steps=st.integers(1, 12),
    kind=st.sampled_from(list(Packing)),
)
def test_documents_times_and_first_steps_are_those_of_all_steps_read(
    blocks, data, seed, size, steps, kind
):
    curriculum = data.draw(phases(most=3))
    names = sorted({name for one in curriculum for name in one.weights})
    sizes = {name: data.draw(lengths) for name in names}
    made = Made(sizes, curriculum, seed, kind, global_batch=size, sequence_length=8)
    batches, at = made.batches(), defaultdict(list)
    batches.left_out = data.draw(
        st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), max_size=3)
    )
    for step in range(1, steps + 1):
        for place in names_of(batches, step):
            at[place].append(step)
    for name, source in batches.sources.items():
        stretches = [
            tuple(batches.before(number)[name] for number in pair)
            for pair in batches.stretches(steps)
        ]
        counts, start = {"wholly": 0, "partly": 0, "never": 0}, 0
        for stop in np.cumsum(sizes[name]).tolist():
            holding = source.sequences.of_tokens(start, stop).tolist()
            times = [len(at[name, number]) for number in holding]
            assert batches.times_read(name, start, stop, steps) == (min(times), max(times))
            first = sorted({step for number in holding for step in at[name, number]})
            told = reads.first_steps(batches, name, start, stop, steps)
            assert told == first[: reads.FIRST_STEPS]
            counts["wholly" if all(times) else "partly" if any(times) else "never"] += 1
            start = stop
        assert documents_seen(source, stretches) == counts
