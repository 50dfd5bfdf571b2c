import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.errors import ArtifactError
from llmhpc.jobs import shuffle
from llmhpc.tokens.shards import line_writer, read_lines, shard_paths
from llmhpc.tokens.shuffle import gather, scatter


@pytest.fixture(scope="module")
def pages(prose):
    return prose(300, words=30) + [{"text": f"same id {n}", "id": "twice"} for n in range(3)]


def order(step):
    return list(read_lines(shard_paths(step)))


@pytest.fixture(scope="module")
def once(pages, write_documents, run_stage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shuffle")
    inputs = {"documents": write_documents(folder / "in", pages)}
    run_stage(shuffle.Config(ranks=4), inputs, folder / "out", seed=7)
    return folder / "out"


@pytest.mark.parametrize(("ranks", "shards"), [(1, 1), (3, 5), (4, 2), (7, 3)])
def test_ranks_and_shards_do_not_change_the_order(
    once, pages, ranks, shards, write_documents, run_stage, tmp_path
):
    pages = random.Random(ranks).sample(pages, len(pages))
    inputs = {"documents": write_documents(tmp_path / "in", pages, shards)}
    counts = run_stage(shuffle.Config(ranks=ranks), inputs, tmp_path / "out", seed=7)
    assert order(tmp_path / "out") == order(once)
    assert counts["documents"] == counts["documents_in"] == counts["scattered"] == len(pages)
    assert len(shard_paths(tmp_path / "out")) == ranks


def test_every_line_comes_out_once_and_byte_for_byte(once, pages):
    lines = [json.dumps(page, ensure_ascii=False).encode() for page in pages]
    assert sorted(order(once)) == sorted(lines)
    assert order(once) != lines


def test_ranks_in_another_order_make_the_same_bytes(
    once, pages, write_documents, run_stage, files_of, tmp_path
):
    inputs = {"documents": write_documents(tmp_path / "in", pages)}
    run_stage(shuffle.Config(ranks=4), inputs, tmp_path / "out", seed=7, backwards=True)
    assert files_of(tmp_path / "out") == files_of(once)


def test_another_seed_is_another_order(once, pages, write_documents, run_stage, tmp_path):
    inputs = {"documents": write_documents(tmp_path / "in", pages)}
    run_stage(shuffle.Config(), inputs, tmp_path / "out", seed=8)
    assert order(tmp_path / "out") != order(once)
    assert sorted(order(tmp_path / "out")) == sorted(order(once))


def test_neighbours_of_the_input_end_up_anywhere(once, pages):
    where = {json.loads(line)["id"]: place for place, line in enumerate(order(once))}
    steps = [abs(where[f"page-{n}"] - where[f"page-{n + 1}"]) for n in range(299)]
    assert 70 < sum(steps) / len(steps) < 130  # a third of 303 for a uniformly random order


def test_little_memory_means_more_runs_and_the_same_order(once, pages, write_documents, tmp_path):
    shards = shard_paths(write_documents(tmp_path / "in", pages))
    scatter(shards, tmp_path / "0.frames", parts=2, seed=7, memory_bytes=10_000)
    assert len(json.loads((tmp_path / "0.frames.json").read_text())["runs"]) > 5
    for part in range(2):
        shard = tmp_path / f"out/documents/{part:05d}.jsonl.zst"
        gather([tmp_path / "0.frames"], part, shard, memory_bytes=1)  # two frames at once
    assert order(tmp_path / "out") == order(once)


def test_the_scatter_phase_writes_two_files_per_rank(pages, write_documents, tmp_path):
    shards = shard_paths(write_documents(tmp_path / "in", pages))
    scatter(shards, tmp_path / "work" / "0.frames", parts=50, seed=0)
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_a_shard_that_was_cut_short_or_is_no_shard_is_an_error(once, tmp_path):
    (tmp_path / "documents").mkdir()
    whole = shard_paths(once)[0].read_bytes()
    for damaged in whole[:-40], b"x" * 100:
        (tmp_path / "documents/00000.jsonl.zst").write_bytes(damaged)
        with pytest.raises(ArtifactError, match="00000.jsonl.zst"):
            order(tmp_path)


def test_a_line_without_an_id_is_an_error(tmp_path):
    (tmp_path / "documents").mkdir()
    line = zstandard.ZstdCompressor().compress(b'{"text": "a"}\n')
    (tmp_path / "documents/00000.jsonl.zst").write_bytes(line)
    with pytest.raises(ArtifactError, match="not a document with id and text"):
        scatter(shard_paths(tmp_path), tmp_path / "0.frames", parts=1, seed=0)


def test_a_shard_of_several_frames_is_read_to_its_end(tmp_path):
    pieces = (b"one\ntw", b"o\n", b"", b"three\n")
    path = tmp_path / "0.zst"
    path.write_bytes(b"".join(zstandard.ZstdCompressor().compress(piece) for piece in pieces))
    assert list(read_lines([path])) == [b"one", b"two", b"three"]


def test_an_input_without_documents_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="nothing to read"):
        shard_paths(tmp_path)


DOCUMENTS = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=30)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(DOCUMENTS, st.integers(1, 4), st.integers(1, 5), st.integers(1, 400), st.integers(0, 9))
def test_a_shuffle_is_the_same_permutation_whatever_the_chunking(
    documents, files, parts, memory_bytes, seed
):
    lines = [orjson.dumps({"id": name, "text": text}) for name, text in documents]

    def shuffled(files, parts, memory_bytes):
        with TemporaryDirectory() as name:
            home, found = Path(name), []
            for file in range(files):
                with line_writer(home / f"in/documents/{file}.jsonl.zst") as write:
                    for line in lines[file::files]:
                        write(line)
            frames = [home / f"{file}.frames" for file in range(files)]
            for shard, path in zip(shard_paths(home / "in"), frames, strict=True):
                scatter([shard], path, parts, seed, memory_bytes=memory_bytes)
            for part in range(parts):
                gather(frames, part, home / f"{part}.zst", memory_bytes=memory_bytes)
                found += read_lines([home / f"{part}.zst"])
            return found

    assert sorted(shuffled(files, parts, memory_bytes)) == sorted(lines)
    assert shuffled(files, parts, memory_bytes) == shuffled(1, 1, 1 << 20)
