"""Mixtures of token sets: exact shares, epochs of each source, and nothing but seed and step decides."""

import json
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.files import read_json, write_json
from llmhpc.jobs.tokenize import Config as TokenizeStage
from llmhpc.jobs.tokenizer import Config as TokenizerStage
from llmhpc.tracing.checkpoint import batches_of
from llmhpc.tracing.flow import _node
from llmhpc.train import outlook
from llmhpc.train.data import Batches
from llmhpc.train.mixture import Mixture, open_batches
from llmhpc.train.settings import MixturePhase, Packing, Parallel, Schedule
from llmhpc.train.shares import Shares

from .conftest import Runs
from .test_layouts import assert_same
from .test_packing import token_files

NAMES = ("books", "code", "web", "wiki")


def phase(until_step=0, **weights):
    return MixturePhase(until_step=until_step, weights=weights)


def shares_of(curriculum, size, seed):
    return Shares(Schedule(steps=10**9, global_batch=size, phases=curriculum), seed)


@st.composite
def phases(draw, most=4):
    """One to three phases of random weights, which sum to 1."""
    count = draw(st.integers(1, 3))
    steps = sorted(draw(st.sets(st.integers(1, 30), min_size=count - 1, max_size=count - 1)))
    made = []
    for until in [*steps, 0]:
        names = draw(st.sets(st.sampled_from(NAMES[:most]), min_size=1))
        cuts = sorted(
            draw(st.lists(st.integers(0, 1000), min_size=len(names) - 1, max_size=len(names) - 1))
        )
        parts = np.diff([0, *cuts, 1000]) / 1000
        made.append(
            MixturePhase(
                until_step=until, weights=dict(zip(sorted(names), parts.tolist(), strict=True))
            )
        )
    return made


@settings(deadline=None)
@given(phases(), st.integers(1, 16), st.integers(0, 9), st.integers(0, 400), st.integers(0, 120))
def test_shares_are_exact_in_any_stretch_of_a_phase(curriculum, size, seed, first, length):
    shares = shares_of(curriculum, size, seed)
    given_ = shares.of(first, first + length)
    assert len(given_) == length
    starts = [0, *(one.until_step * size for one in curriculum[:-1])]
    ends = [*starts[1:], first + length]
    for one, start, end in zip(curriculum, starts, ends, strict=True):
        start, end = max(start, first), min(end, first + length)
        if start >= end:
            continue
        counts = Counter(name for name, _ in given_[start - first : end - first])
        bound = 1 if len(one.weights) <= 2 else len(one.weights)
        for name, weight in one.weights.items():
            assert abs(counts[name] - weight * (end - start)) < bound
            assert weight or not counts[name]
        assert set(counts) <= set(one.weights)


@settings(deadline=None)
@given(phases(), st.integers(1, 16), st.integers(0, 9), st.integers(0, 60), st.integers(0, 60))
def test_counts_are_known_without_counting(curriculum, size, seed, first, length):
    shares = shares_of(curriculum, size, seed)
    counts = Counter(shares.before(first))
    for name, place in shares.of(first, first + length):
        assert place == counts[name]
        counts[name] += 1
    assert {name: counts[name] for name in shares.names} == shares.before(first + length)


def test_a_phase_of_a_hundred_billion_sequences_is_still_exact():
    shares = shares_of([phase(web=0.7, code=0.2, wiki=0.1)], 1, 0)
    far = 10**11
    assert sum(shares.before(far).values()) == far
    assert abs(shares.before(far)["web"] - 0.7 * far) < 1
    assert len(shares.of(far, far + 10)) == 10


class Made:
    """Batches of sources of some documents, in a folder of their own."""

    def __init__(self, sizes, curriculum, seed, packing, **schedule):
        self.folder = tempfile.TemporaryDirectory()
        self.tokens = {}
        for name, lengths in sizes.items():
            folder = Path(self.folder.name) / name
            folder.mkdir()
            self.tokens[name] = token_files(folder, lengths)
        self.seed = seed
        self.schedule = Schedule(
            steps=100, warmup_steps=0, phases=curriculum, packing=packing, **schedule
        )

    def batches(self):
        return open_batches(self.tokens, self.schedule, self.seed)


def names_of(batches, step):
    """The sequences of a step: their source and number."""
    places = {id(source): name for name, source in batches.sources.items()}
    return [(places[id(source)], number) for source, number in batches.drawn(step)]


def share(batches, step, dp, micro_batch):
    """The rows of all replicas, in the order of the step."""
    ranks = [
        list(batches.micro_batches(step, dp_rank=rank, dp=dp, micro_batch=micro_batch))
        for rank in range(dp)
    ]
    together = [rows for part in zip(*ranks, strict=True) for rows in part]
    return np.concatenate([r.tokens for r in together]), np.concatenate(
        [r.weights for r in together]
    )


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=25).filter(lambda some: sum(some) > 9)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    seed=st.integers(0, 1000),
    micro_batch=st.integers(1, 3),
    dp=st.integers(1, 4),
    accumulation=st.integers(1, 3),
    mixed=st.booleans(),
    packing=st.sampled_from(list(Packing)),
    steps=st.integers(2, 12),
)
def test_any_layout_and_any_resume_read_the_same_and_each_epoch_every_sequence_once(
    data, seed, micro_batch, dp, accumulation, mixed, packing, steps
):
    size = micro_batch * dp * accumulation
    curriculum = data.draw(phases(most=3)) if mixed else []
    names = sorted({name for one in curriculum for name in one.weights}) or ["tokens"]
    sizes = {name: data.draw(lengths) for name in names}
    if not mixed:
        sizes["tokens"] = sizes["tokens"] * size  # one step must be filled
    made = Made(sizes, curriculum, seed, packing, global_batch=size, sequence_length=8)
    batches = made.batches()
    drawn = {name: [] for name in batches.sources}
    for step in range(1, steps + 1):
        tokens, weights = share(batches, step, 1, size)
        spread = share(batches, step, dp, micro_batch)
        assert np.array_equal(spread[0], tokens)
        assert np.array_equal(spread[1], weights)
        for name, number in names_of(batches, step):
            drawn[name].append(number)
    assert {name: len(numbers) for name, numbers in drawn.items()} == batches.drawn_by(steps)
    for name, numbers in drawn.items():
        count = batches.sources[name].count
        epochs = [numbers[at : at + count] for at in range(0, len(numbers), count)]
        for epoch in epochs:
            assert len(set(epoch)) == len(epoch)  # nothing twice
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs[:-1])
    resumed, at = made.batches(), data.draw(st.integers(1, steps))
    resumed.go_to(batches.position())
    again, expected = share(resumed, at, dp, micro_batch), share(batches, at, 1, size)
    assert np.array_equal(again[0], expected[0])
    assert np.array_equal(again[1], expected[1])


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("seed", range(5))
def test_two_epochs_of_a_source_are_two_orders(seed, packing):
    sizes = {"web": [7] * 60, "code": [5] * 40}
    schedule = {"global_batch": 4, "sequence_length": 8}
    batches = Made(sizes, [phase(web=0.5, code=0.5)], seed, packing, **schedule).batches()
    for source in batches.sources.values():
        orders = [
            [source.number(epoch * source.count + i) for i in range(source.count)]
            for epoch in range(3)
        ]
        assert orders[0] != orders[1] != orders[2] != orders[0]


def test_sources_of_the_same_size_have_orders_of_their_own():
    sizes = {"web": [7] * 60, "code": [7] * 60}
    schedule = {"global_batch": 4, "sequence_length": 8}
    batches = Made(sizes, [phase(web=0.5, code=0.5)], 0, Packing.stretches, **schedule).batches()
    orders = [[source.number(i) for i in range(20)] for source in batches.sources.values()]
    assert orders[0] != orders[1]


def test_a_source_that_does_not_fill_a_sequence_is_named():
    made = Made(
        {"web": [100], "code": [5]},
        [phase(web=0.5, code=0.5)],
        0,
        Packing.stretches,
        global_batch=4,
        sequence_length=8,
    )
    with pytest.raises(ArtifactError) as caught:
        made.batches()
    message = "needs.code: 5 training tokens are no sequence of 8 (schedule.sequence_length)"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        ([phase()], "phases.0.weights is not set: each source's share"),
        ([phase(web=0.7, code=0.2)], "phases.0.weights: their sum is 0.9, 1 is right"),
        ([phase(web=1.5, code=-0.5)], "phases.0.weights.code=-0.5: 0 or more"),
        ([phase(0, web=1), phase(web=1)], "phases.0.until_step=0: above 0 and below steps=50"),
        ([phase(60, web=1), phase(web=1)], "phases.0.until_step=60: above 0 and below steps=50"),
        (
            [phase(20, web=1), phase(20, web=1), phase(web=1)],
            "phases.1.until_step=20: above 20 and below steps=50",
        ),
        ([phase(20, web=1)], "phases.0.until_step=20: 0, the last phase has the rest"),
    ],
)
def test_phases_that_cannot_be_are_one_clear_line(curriculum, message):
    with pytest.raises(ConfigError) as caught:
        Schedule(steps=50, phases=curriculum)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def mixed_runs(inputs, tmp_path_factory):
    """The tokens of the other trainings as one source, half of them in another order as the other."""
    code = tmp_path_factory.mktemp("mixed") / "code"
    shutil.copytree(inputs["tokens"], code)
    row = np.fromfile(code / "train" / "00000.ds", dtype="<u2")[:6000][::-1]
    row.tofile(code / "train" / "00000.ds")
    np.array([len(row)], dtype="<u8").tofile(code / "train" / "00000.ds.index")
    index = read_json(code / "tokens.json")
    index["train"]["tokens"] = len(row)
    write_json(code / "tokens.json", index)
    made = Runs({"web": inputs["tokens"], "code": code, "tokenizer": inputs["tokenizer"]})
    curriculum = [phase(3, web=0.75, code=0.25), phase(web=0.25, code=0.75)]
    made.base = replace(
        made.base,
        needs={"web": "web", "code": "code", "tokenizer": "tokenizer"},
        schedule=replace(made.base.schedule, phases=curriculum),
    )
    return made


@pytest.fixture(scope="module")
def mixed(mixed_runs, tmp_path_factory):
    return mixed_runs.here(tmp_path_factory.mktemp("mixed_single"))


def test_the_manifest_says_how_often_each_source_was_read(mixed_runs, tmp_path):
    mixed_runs.here(tmp_path)
    counts = read_json(tmp_path / "manifest.json")["counts"]
    # 3 steps of 8 at 0.75 and 0.25, 5 at 0.25 and 0.75; 20,000 and 6,000 tokens are 624 and 187 sequences of 32
    assert counts["epochs"] == {"web": round(28 / 624, 4), "code": round(36 / 187, 4)}
    traced = batches_of(_node(tmp_path))
    assert traced.drawn_by(8) == {"web": 28, "code": 36}
    assert {name: source.tokens.tokens for name, source in traced.sources.items()} == {
        "web": 20_000,
        "code": 6000,
    }


def test_a_killed_mixture_goes_on_as_if_nothing_had_happened(mixed_runs, mixed, tmp_path):
    home = tmp_path / "run"
    mixed_runs.start(home).kill_after(step=5, saved=3)
    again = mixed_runs.here(home)
    assert [r["loss"] for r in again] == [r["loss"] for r in mixed]
    assert json.loads((home / "checkpoints" / "latest.txt").read_text()) == 8


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"dp": 2}, {"dp": 4, "micro_batch": 1}, {"pp": 2}], ids=str)
def test_every_layout_reads_the_mixture(parallel, mixed_runs, mixed, tmp_path):
    assert_same(mixed_runs.spread(tmp_path / "run", parallel=parallel), mixed)


def test_needs_and_weights_name_the_same_sources(mixed_runs):
    cfg = mixed_runs.base
    cfg = replace(cfg, model=replace(cfg.model, vocab_size=TokenizerStage().vocab_size))
    there = {"tokenizer": TokenizerStage(), "web": TokenizeStage(), "code": TokenizeStage()}
    cfg.check_with(there)
    assert {"web", "code"} <= cfg.optional_roles().keys()
    with pytest.raises(ConfigError, match=r"phases\.0\.weights\.code: one of needs, web"):
        cfg.check_with({name: there[name] for name in ("tokenizer", "web")})
    with pytest.raises(ConfigError, match=r"needs\.tokens=.*: one of schedule\.phases, code, web"):
        cfg.check_with(there | {"tokens": TokenizeStage()})


def test_a_source_that_is_read_too_often_is_said_beforehand(mixed_runs):
    schedule = replace(mixed_runs.base.schedule, steps=2000)
    model = mixed_runs.base.model
    told = [str(f) for f in outlook.data(mixed_runs.inputs, model, schedule)]
    assert len(told) == 2
    assert "63.9 times through the 6,000 tokens of code" in told[0]
    short = replace(mixed_runs.base.schedule, sequence_length=6000)
    told = [str(f) for f in outlook.data(mixed_runs.inputs, model, short)]
    assert "schedule.sequence_length=6000: at most 5999, code has 6,000 tokens" in told[0]


def test_without_phases_nothing_is_mixed(inputs):
    from llmhpc.tokens.reader import TokenFiles

    schedule = Schedule(global_batch=8, sequence_length=32)
    batches = open_batches({"tokens": TokenFiles(inputs["tokens"])}, schedule, 3)
    assert type(batches) is Batches
    assert not isinstance(batches, Mixture)
    assert schedule.accumulation(Parallel(micro_batch=2)) == 4
