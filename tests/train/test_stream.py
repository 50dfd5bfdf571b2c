"""Training from text: the tokens of the tokenize stage in their order, from any position on."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.files import read_json, write_json
from llmhpc.handoff.artifact import MANIFEST
from llmhpc.jobs import shuffle, tokenize, tokenizer, train
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.settings import Packing, Schedule
from llmhpc.train.stream import TextStream

from .conftest import VOCABULARY, Runs

HELDOUT = 0.1
BATCH = 4


@pytest.fixture(scope="module")
def steps(prose, write_documents, run_stage, tmp_path_factory):
    """A folder with the steps shuffle, tokenizer and tokens; some documents are held out, some have no text."""
    root = tmp_path_factory.mktemp("steps")
    documents = prose(60, words=30)
    for document in documents[::9]:
        document["text"] = ""
    write_documents(root / "in", documents)
    run_stage(shuffle.Config(ranks=4), {"documents": root / "in"}, root / "shuffle")
    inputs = {"documents": root / "shuffle"}
    config = tokenizer.Config(vocab_size=500, heldout_fraction=HELDOUT)
    run_stage(config, inputs, root / "tokenizer")
    inputs["tokenizer"] = root / "tokenizer"
    run_stage(tokenize.Config(heldout_fraction=HELDOUT), inputs, root / "tokens")
    return root


def stream_of(steps, length):
    schedule = Schedule(global_batch=BATCH, sequence_length=length)
    return TextStream(steps / "shuffle", steps / "tokenizer", schedule, HELDOUT)


def read(stream, step, dp=1, micro_batch=BATCH, rank=0):
    parts = stream.micro_batches(step, dp_rank=rank, dp=dp, micro_batch=micro_batch)
    return np.concatenate([rows.tokens for rows in parts])


@pytest.mark.parametrize("length", [7, 64, 500])
def test_the_batches_are_the_tokenized_files_read_in_order(steps, length):
    tokens = TokenFiles(steps / "tokens")
    assert TokenFiles(steps / "tokens", "heldout").documents > 0
    windows = (len(tokens) - 1) // length
    stream, number = stream_of(steps, length), 0
    for step in range(1, 2 * windows // BATCH + 3):  # more than two epochs
        for row in read(stream, step):
            expected = tokens.window(number % windows * length, length + 1)
            assert row.tolist() == expected.tolist()
            number += 1
    assert stream.position()["epoch"] == 2


def test_every_position_goes_on_with_the_same_tokens(steps):
    whole = stream_of(steps, 50)
    expected = [read(whole, step) for step in range(1, 41)]
    stream = stream_of(steps, 50)
    for step, batch in enumerate(expected, 1):
        other = stream_of(steps, 50)
        other.go_to(stream.position())
        assert np.array_equal(read(other, step), batch)
        assert other.position() != stream.position()
        stream = other
    assert stream.position()["epoch"] >= 1


def test_shards_before_the_position_are_not_read(steps, tmp_path):
    stream = stream_of(steps, 50)
    while stream.position()["shard"] < 2:
        read(stream, 1)
    shutil.copytree(steps / "shuffle" / "documents", tmp_path / "documents")
    for number in (0, 1):
        (tmp_path / "documents" / f"{number:05d}.jsonl.zst").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="not a zstd file"):
        read_from(tmp_path, steps, {})
    assert np.array_equal(read_from(tmp_path, steps, stream.position()), read(stream, 2))


def read_from(folder, steps, position):
    schedule = Schedule(global_batch=BATCH, sequence_length=50)
    stream = TextStream(folder, steps / "tokenizer", schedule, HELDOUT)
    stream.go_to(position)
    return read(stream, 1)


@pytest.mark.parametrize(("dp", "micro_batch"), [(1, 2), (2, 2), (4, 1)])
def test_replicas_share_the_batch_as_they_share_tokens(steps, dp, micro_batch):
    shares = [read(stream_of(steps, 50), 1, dp, micro_batch, rank) for rank in range(dp)]
    together = np.concatenate(shares).tolist()
    assert sorted(together) == sorted(read(stream_of(steps, 50), 1).tolist())


def test_too_little_text_for_a_sequence_is_an_error(steps):
    total = len(TokenFiles(steps / "tokens"))
    assert read(stream_of(steps, total - 1), 1).shape == (BATCH, total)
    with pytest.raises(ArtifactError, match=f"{total} training tokens are no sequence of {total}"):
        read(stream_of(steps, total), 1)


def test_training_needs_one_source_of_tokens(runs):
    base = runs.settings(model={"vocab_size": tokenizer.Config().vocab_size})
    both = {"tokens": tokenize.Config(), "documents": shuffle.Config()}
    with pytest.raises(ConfigError, match=r"needs\.tokens, .* or needs\.documents"):
        base.check_with({"tokenizer": tokenizer.Config()} | both)
    with pytest.raises(ConfigError, match=r"needs\.tokens, .* or needs\.documents"):
        base.check_with({"tokenizer": tokenizer.Config()})
    packed = replace(base, schedule=replace(base.schedule, packing=Packing.documents))
    with pytest.raises(ConfigError, match=r"schedule\.packing=documents: stretches"):
        packed.check_with({"tokenizer": tokenizer.Config(), "documents": shuffle.Config()})
    assert isinstance(base, train.Config)


@pytest.fixture(scope="module")
def text_runs(inputs, write_documents, tmp_path_factory):
    """Trainings on documents of the words that the other trainings' tokenizer knows."""
    rng = np.random.default_rng(3)
    documents = []
    for number in range(150):
        words = rng.integers(2, VOCABULARY, rng.integers(5, 80)).tolist()
        documents.append({"id": f"d{number}", "text": " ".join(f"w{word}" for word in words)})
    step = write_documents(tmp_path_factory.mktemp("text"), documents)
    write_json(step / MANIFEST, {})
    made = Runs({"documents": step, "tokenizer": inputs["tokenizer"]})
    made.base = replace(made.base, heldout_fraction=HELDOUT)
    return made


def exact(records):
    return [(r["step"], r["loss"], r["lr"], r["grad_norm"], r["tokens"]) for r in records]


def test_a_killed_training_on_text_goes_on_as_if_nothing_had_happened(text_runs, tmp_path):
    whole = text_runs.here(tmp_path / "whole")
    home = tmp_path / "run"
    text_runs.start(home).kill_after(step=5, saved=3)
    reading = read_json(home / "checkpoints" / "3" / "state.json")["reading"]
    assert reading["shard"] or reading["line"]
    assert exact(text_runs.here(home)) == exact(whole)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"dp": 2}, {"pp": 2}])
def test_every_layout_trains_on_the_same_text(layout, text_runs, tmp_path):
    one = text_runs.here(tmp_path / "one")
    other = text_runs.spread(tmp_path / "other", parallel=layout)
    for a, b in zip(one, other, strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-5
