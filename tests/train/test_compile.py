"""Compiled layers learn what the others do."""

import shutil

import pytest

from .test_layouts import assert_same

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)


@pytest.mark.slow
def test_compiled_layers_train_as_the_others(runs, single, tmp_path):
    import torch
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    records = runs.here(tmp_path, parallel={"compile": True})
    assert_same(records, runs.records(single))
    # one for all layers, else torch gives up compiling after some
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [{"tp": 2, "recompute": True}, {"cp": 2}], ids=["tp", "cp"])
def test_compiled_layers_that_are_cut_train_as_one_process(cut, runs, single, tmp_path):
    records = runs.spread(tmp_path, parallel={"compile": True, **cut})
    assert_same(records, runs.records(single))
