"""Packing of whole documents: nothing lost, nothing doubled, padding without weight."""

import shutil
import tempfile
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhpc.files import read_json, write_json
from llmhpc.tokens.encode import SplitWriter
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train import packing
from llmhpc.train.data import Batches
from llmhpc.train.settings import Packing, Schedule

EOS = 1_000_000
documents = st.lists(st.integers(1, 70), min_size=1, max_size=60)
capacities = st.integers(1, 40)


def token_files(folder, lengths, file_tokens=1 << 40):
    """Documents of these lengths whose tokens are all different, but for the eos at their ends."""
    row = np.arange(sum(lengths), dtype="<u4")
    ends = np.cumsum(lengths).astype("<u8")
    row[ends - 1] = EOS
    with closing(SplitWriter(folder / "train", file_tokens)) as writer:
        writer.add(row, ends)
    split = {"tokens": len(row), "documents": len(lengths)}
    split["files"] = [f"train/{path.name}" for path in writer.paths]
    index = {"dtype": "uint32", "vocab_size": EOS + 1, "eos_id": EOS}
    write_json(folder / "tokens.json", index | {"train": split, "heldout": split})
    return TokenFiles(folder)


def packed(lengths, capacity, file_tokens=1 << 40):
    with tempfile.TemporaryDirectory() as folder:
        tokens = token_files(Path(folder), lengths, file_tokens)
        return packing.Sequences(tokens, capacity), tokens.window(0, len(tokens))


def one_by_one(lengths, capacity):
    """The reference: the longest first, each where it leaves the least room. What the sequences hold."""
    held = []
    for length in sorted(lengths, reverse=True):
        fits = [one for one in held if sum(one) + length <= capacity]
        if fits:
            max(fits, key=sum).append(length)
        else:
            held.append([length])
    return Counter(tuple(sorted(one)) for one in held)


@given(documents, capacities)
def test_pieces_are_packed_as_one_by_one_by_best_fit_decreasing(lengths, capacity):
    lengths = [min(length, capacity) for length in lengths]
    bins, count = packing.best_fit(np.bincount(lengths, minlength=capacity + 1))
    held = [[] for _ in range(count)]
    for number, length in zip(bins.tolist(), sorted(lengths, reverse=True), strict=True):
        held[number].append(length)
    assert all(0 < sum(one) <= capacity for one in held)
    assert Counter(tuple(sorted(one)) for one in held) == one_by_one(lengths, capacity)


@pytest.fixture(params=[(1 << 17, 1 << 28), (3, 1 << 28), (1 << 17, 50)], ids=str)
def blocks(request, monkeypatch):
    """One block, blocks of three documents, blocks of fifty tokens."""
    monkeypatch.setattr(packing, "BLOCK_DOCUMENTS", request.param[0])
    monkeypatch.setattr(packing, "BLOCK_TOKENS", request.param[1])


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(documents, capacities, st.sampled_from([30, 1 << 40]))
def test_every_token_is_read_once_and_documents_are_cut_only_where_they_must(
    blocks, lengths, capacity, file_tokens
):
    sequences, row = packed(lengths, capacity, file_tokens)
    seen, following = Counter(), dict(zip(row.tolist(), row[1:].tolist(), strict=False))
    whole = {(end - n, end) for end, n in zip(np.cumsum(lengths).tolist(), lengths, strict=True)}
    for number in range(len(sequences)):
        pieces = sequences._pieces(number)
        assert sum(length for _, length, _ in pieces) <= capacity
        for start, length, _ in pieces:
            seen.update(range(start, start + length))
            assert (start, start + length) in whole or any(
                a <= start < start + length <= b and b - a > capacity for a, b in whole
            )
        tokens, weights = sequences.row(number)
        held = [t for start, n, _ in pieces for t in row[start : start + n].tolist()]
        assert tokens[: len(held)].tolist() == held
        counted = int(weights.sum())
        assert weights.tolist() == [1.0] * counted + [0.0] * (capacity - counted)
        assert counted == sequences.labels(number) in (len(held), len(held) - 1)
        for token, label in zip(
            tokens[:counted].tolist(), tokens[1 : counted + 1].tolist(), strict=True
        ):
            assert token == EOS or following[token] == label
        assert set(tokens[len(held) + 1 :].tolist()) <= {EOS}
    assert seen == Counter(range(len(row)))


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(documents, capacities, st.integers(0, 3))
def test_an_epoch_reads_every_sequence_once(blocks, lengths, capacity, epoch):
    sequences, _ = packed(lengths, capacity)
    order = [sequences.drawn(5, epoch, index) for index in range(len(sequences))]
    assert sorted(order) == list(range(len(sequences)))
    ends = np.cumsum(lengths).tolist()
    holding = sequences.of_tokens(ends[-1] - lengths[-1], ends[-1])
    places = sequences.index_in(5, epoch, holding)
    assert places.tolist() == [order.index(number) for number in holding.tolist()]


def test_another_epoch_has_another_order_and_blocks_come_one_after_the_other(monkeypatch):
    monkeypatch.setattr(packing, "BLOCK_DOCUMENTS", 100)
    sequences, _ = packed([7] * 1000, 16)
    orders = [[sequences.drawn(0, e, i) for i in range(len(sequences))] for e in range(2)]
    assert orders[0] != orders[1]
    blocks = [int(np.searchsorted(sequences.firsts, n, side="right")) for n in orders[0]]
    assert sum(a != b for a, b in pairwise(blocks)) == 9


def test_weights_are_one_on_average_over_the_global_batch(tmp_path):
    tokens = token_files(tmp_path, np.random.default_rng(0).integers(1, 50, 400).tolist())
    schedule = Schedule(global_batch=8, sequence_length=32, packing=Packing.documents)
    batches = Batches(tokens, schedule, seed=1)
    for step in (1, 2, 30):
        for dp in (1, 2):
            rows = [
                row
                for rank in range(dp)
                for row in batches.micro_batches(step, dp_rank=rank, dp=dp, micro_batch=2)
            ]
            weights = np.stack([row.weights for row in rows])
            assert weights.mean() == pytest.approx(1, abs=1e-6)
            assert len(np.unique(weights)) == 2


def test_nearly_nothing_is_padding_where_documents_are_short(tmp_path):
    lengths = np.random.default_rng(0).lognormal(4, 1, 5000).astype(int) + 1
    sequences = packing.Sequences(token_files(tmp_path, lengths.tolist()), 512)
    assert lengths.sum() / (len(sequences) * 512) > 0.998


@pytest.fixture(scope="module")
def cut_inputs(inputs, tmp_path_factory):
    """The tokens of the other tests as documents of 1 to 60 tokens."""
    folder = tmp_path_factory.mktemp("cut") / "tokens"
    shutil.copytree(inputs["tokens"], folder)
    index = read_json(folder / "tokens.json")
    total = index["train"]["tokens"]
    ends = np.cumsum(np.random.default_rng(1).integers(1, 60, total)).astype("<u8")
    ends = np.append(ends[ends < total], np.uint64(total)).astype("<u8")
    ends.tofile(folder / "train" / "00000.ds.index")
    index["train"]["documents"] = len(ends)
    write_json(folder / "tokens.json", index)
    return inputs | {"tokens": folder}


@pytest.fixture(scope="module")
def packed_runs(cut_inputs):
    from .conftest import Runs

    return Runs(cut_inputs)


PACKED = {"packing": Packing.documents}


def test_the_loss_is_the_mean_over_the_labels_that_count(packed_runs, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    records = packed_runs.here(tmp_path, schedule=PACKED)
    schedule = packed_runs.settings(schedule=PACKED).schedule
    batches = Batches(TokenFiles(packed_runs.inputs["tokens"]), schedule, seed=7)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "exports" / "000003").eval()
    losses = []
    for number in batches.numbers(4):
        tokens, weights = (torch.from_numpy(part) for part in batches.sequences.row(number))
        with torch.no_grad():
            logits = model(input_ids=tokens[None, :-1]).logits[0]
        each = torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")
        losses.append(each[weights > 0])
    assert sum(map(len, losses)) < 8 * 32
    assert 0 < read_json(tmp_path / "manifest.json")["counts"]["padding"] < 0.05
    assert records[3]["loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"dp": 2}, {"dp": 2, "zero_stage": 1}, {"pp": 2}, {"tp": 2}])
def test_every_layout_has_that_loss(layout, packed_runs, tmp_path):
    one = packed_runs.here(tmp_path / "one", schedule=PACKED)
    other = packed_runs.spread(tmp_path / "other", schedule=PACKED, parallel=layout)
    for a, b in zip(one, other, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-5
        assert abs(a["grad_norm"] - b["grad_norm"]) < 1e-4
