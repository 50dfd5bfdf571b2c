"""With a document mask each document of a sequence is learnt as if it were alone."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhpc.files import read_json
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.data import Batches
from llmhpc.train.positions import in_documents
from llmhpc.train.settings import Packing

from .conftest import SEED
from .test_layouts import assert_same, layout

EOS = 0
MASKED = {"document_mask": True}
PACKINGS = [Packing.stretches, Packing.documents]


def one_by_one(row):
    """The reference: tokens are counted, and the count begins anew behind each eos."""
    positions, place = [], 0
    for token in row[:-1]:
        positions.append(place)
        place = 0 if token == EOS else place + 1
    return positions


@given(st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=4))
def test_positions_begin_anew_behind_each_eos(rows):
    positions = in_documents(np.array(rows), EOS)
    assert positions.tolist() == [one_by_one(row) for row in rows]


def alone(model, tokens, weights):
    """Sum of loss times weight over the documents of a sequence, each run by itself."""
    import torch

    ends = np.flatnonzero(tokens[:-1] == EOS) + 1
    total = torch.zeros(())
    for start, stop in zip([0, *ends], [*ends, len(tokens) - 1], strict=True):
        if start == stop:
            continue
        document = torch.from_numpy(tokens[start:stop])
        logits = model(input_ids=document[None]).logits[0]
        labels = torch.from_numpy(tokens[start + 1 : stop + 1])
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        total = total + (losses * torch.from_numpy(weights[start:stop])).sum()
    return total


@pytest.mark.parametrize("packing", PACKINGS)
def test_loss_and_gradient_are_those_of_the_documents_alone(packing, runs, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    schedule = MASKED | {"packing": packing}
    records = runs.here(tmp_path, schedule=schedule)
    settings = runs.settings(schedule=schedule).schedule
    batches = Batches(TokenFiles(runs.inputs["tokens"]), settings, seed=SEED)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "exports" / "000003").eval()
    (rows,) = batches.micro_batches(4, dp_rank=0, dp=1, micro_batch=8)
    pairs = zip(rows.tokens, rows.weights, strict=True)
    loss = sum(alone(model, *pair) for pair in pairs) / rows.weights.size
    loss.backward()
    norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
    assert records[3]["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert records[3]["grad_norm"] == pytest.approx(norm.item(), abs=1e-5)


def test_without_the_mask_nothing_is_built(runs):
    batches = Batches(TokenFiles(runs.inputs["tokens"]), runs.base.schedule, seed=SEED)
    assert next(batches.micro_batches(1, dp_rank=0, dp=1, micro_batch=8)).positions is None


@pytest.fixture(scope="module")
def masked(runs, tmp_path_factory):
    return runs.here(tmp_path_factory.mktemp("masked"), schedule=MASKED)


def test_the_mask_changes_what_is_learnt(masked, runs, single):
    assert masked[0]["loss"] != runs.records(single)[0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        {"tp": 2},
        {"tp": 2, "tp_mode": "REDUCE_SCATTER"},
        {"pp": 2},
        {"pp": 2, "pp_order": "all_forward_all_backward"},
        {"tp": 2, "pp": 2, "tp_mode": "REDUCE_SCATTER", "recompute": True},
        {"dp": 2, "micro_batch": 1},
        {"recompute": True},
        {"cp": 2, "recompute": True},
    ],
    ids=str,
)
def test_every_layout_has_that_loss(choice, masked, runs, tmp_path):
    records = runs.spread(tmp_path / "run", schedule=MASKED, parallel=layout(choice))
    assert_same(records, masked)


@pytest.mark.slow
def test_a_masked_run_goes_on_as_if_nothing_had_happened(masked, runs, tmp_path):
    home = tmp_path / "run"
    runs.start(home, schedule=MASKED).kill_after(step=5, saved=3)
    again = runs.here(home, schedule=MASKED)
    assert [r["loss"] for r in again] == [r["loss"] for r in masked]
    assert read_json(home / "manifest.json")["counts"]["steps"] == 8
    shutil.rmtree(home)
