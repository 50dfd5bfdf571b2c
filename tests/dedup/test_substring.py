import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhpc.dedup import substring
from llmhpc.dedup.blocks import pieces, suffixes
from llmhpc.dedup.blocks.units import Bytes
from llmhpc.errors import ConfigError
from llmhpc.jobs import dedup


def by_substring(ranks=1, **settings_of_method):
    return dedup.Config(ranks=ranks, method=substring.Config(**settings_of_method))


def brute_force(texts, length):
    """The bytes of each text that lie in a window which an earlier text, or the same one earlier, has too."""
    seen, repeated = set(), []
    for text in texts:
        marked = set()
        for at in range(len(text) - length + 1):
            window = text[at : at + length]
            if window in seen:
                marked |= set(range(at, at + length))
            seen.add(window)
        repeated.append(marked)
    return repeated


def marked(documents):
    """The characters that each document's metadata calls repeated, by id."""
    return {
        int(document["id"]): {
            at
            for start, end in document["metadata"].get("repeated", [])
            for at in range(start, end)
        }
        for document in documents
    }


def as_documents(texts):
    return [{"id": str(n), "text": text, "metadata": {}} for n, text in enumerate(texts)]


texts_of_few_letters = st.lists(
    st.one_of(
        st.text("ab", max_size=40),
        st.lists(st.sampled_from(["abcab", "bca", "c", "aaaaaaa"]), max_size=8).map("".join),
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=texts_of_few_letters,
    length=st.integers(4, 9),
    buckets=st.integers(1, 3),
    bytes_at_once=st.sampled_from([2, 80, 1 << 20]),
)
def test_exactly_what_is_there_twice_is_marked(
    texts, length, buckets, bytes_at_once, run_stage, write_documents, read_documents, monkeypatch
):
    monkeypatch.setattr(suffixes, "BYTES_PER_BYTE", 512 * (1 << 20) // bytes_at_once)
    config = by_substring(length=length, buckets=buckets, mark=True, min_characters=1)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        inputs = {"documents": write_documents(home / "in", as_documents(texts), shards=1)}
        run_stage(config, inputs, home / "out")
        found = marked(read_documents(home / "out"))
    assert [found[n] for n in range(len(texts))] == brute_force(texts, length)


@pytest.fixture(scope="module")
def boilerplate(prose):
    """Documents with a paragraph of their own before and after one of a few that all share."""
    shared = [document["text"] for document in prose(3, words=30, seed=5)]
    own = [document["text"] for document in prose(60, words=40)]
    texts = [f"{own[n]} {shared[n % 3]} {own[n + 30]}" for n in range(30)]
    return as_documents([*texts, *shared])


def test_all_but_one_copy_is_cut_out_and_the_rest_stays(
    boilerplate, run_stage, write_documents, read_documents, tmp_path
):
    inputs = {"documents": write_documents(tmp_path / "in", boilerplate)}
    counts = run_stage(by_substring(3, buckets=2), inputs, tmp_path / "out")
    kept = {d["id"]: d for d in read_documents(tmp_path / "out")}
    removed = read_documents(tmp_path / "out", "removed/duplicate")
    whole = [d for d in removed if d["metadata"].get("whole", True)]
    assert {d["id"] for d in whole} == {"30", "31", "32"}
    parts = {d["id"]: d for d in removed if not d["metadata"].get("whole", True)}
    assert len(parts) == counts["shortened"] == len(removed) - 3
    assert counts["duplicates"] == 3
    assert counts["shortened"] == 27
    for number in range(3):
        shared = boilerplate[30 + number]["text"]
        assert sum(shared in d["text"] for d in kept.values()) == 1
        (line,) = [
            line
            for line in read_documents(tmp_path / "out", "clusters")
            if line["dropped"] == str(30 + number)
        ]
        assert line["whole"]
        assert line["similarity"] == 1
        assert shared in kept[line["kept"]]["text"]
        assert line["cluster_size"] == 11
    for document in boilerplate[:30]:
        text = kept[document["id"]]["text"]
        lost = parts.get(document["id"], {"text": "", "metadata": {}})
        size = lost["metadata"].get("bytes_removed", 0)
        assert len(text.encode()) + size == len(document["text"].encode())
        assert all(piece in document["text"] for piece in lost["text"].split("\n"))
        assert text[:200] == document["text"][:200]
        assert text[-200:] == document["text"][-200:]


def test_ranks_buckets_and_memory_change_nothing(
    boilerplate, run_stage, write_documents, read_documents, tmp_path, monkeypatch
):
    inputs, found = {"documents": write_documents(tmp_path / "in", boilerplate)}, []
    for number, (ranks, buckets, memory) in enumerate([(1, 1, 512), (3, 2, 512), (2, 3, 1)]):
        if memory == 1:
            monkeypatch.setattr(suffixes, "BYTES_PER_BYTE", 1 << 11)
        config, home = (
            by_substring(ranks, buckets=buckets, memory_mb=memory),
            tmp_path / str(number),
        )
        counts = run_stage(config, inputs, home)
        assert bool(counts["by_hash"]) == (memory == 1)
        folders = ("documents", "removed/duplicate", "clusters")
        found.append([sorted(map(json.dumps, read_documents(home, folder))) for folder in folders])
    assert found[0] == found[1] == found[2]


def test_a_rank_that_runs_again_writes_the_same_bytes(
    boilerplate, run_stage, write_documents, files_of, tmp_path
):
    inputs = {"documents": write_documents(tmp_path / "in", boilerplate)}
    counts = run_stage(by_substring(3, buckets=2), inputs, tmp_path / "once")
    again = run_stage(by_substring(3, buckets=2), inputs, tmp_path / "again", backwards=True)
    assert counts == again
    assert files_of(tmp_path / "once") == files_of(tmp_path / "again")


def test_documents_of_different_dumps_do_not_meet(
    run_stage, write_documents, read_documents, tmp_path
):
    text = "".join(random.Random(1).choices("abcdefgh ", k=600))
    documents = as_documents([text] * 4)
    for number, document in enumerate(documents):
        document["metadata"]["dump"] = "old" if number < 2 else "new"
    inputs = {"documents": write_documents(tmp_path / "in", documents, shards=1)}
    run_stage(by_substring(within="dump"), inputs, tmp_path / "out")
    assert [d["id"] for d in read_documents(tmp_path / "out")] == ["0", "2"]


def test_a_cut_never_divides_a_character():
    units = Bytes()
    for text in ("naïve 日本語 x", "日", "", "ab"):
        body, place = text.encode(), units.characters(text)
        for start in range(len(body) + 1):
            for end in range(start, len(body) + 1):
                first, last = place(start, end)
                inside = text[first:last] if first < last else ""
                assert inside.encode() in body[start:end]
                rest = len(body[start:end]) - len(inside.encode())
                assert rest <= 6
                assert inside == body[start:end].decode(errors="ignore")


def test_tokens_are_units_too(run_stage, write_documents, read_documents, prose, tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [document["text"] for document in prose(8)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    middle = " ".join(texts[0].split()[20:60])
    documents = as_documents([texts[0], f"{texts[1]} naïve {middle} 日本 {texts[2]}"])
    inputs = {"documents": write_documents(tmp_path / "in", documents, shards=1)}
    config = by_substring(length=50, tokenizer=str(tmp_path / "tokenizer.json"), mark=True)
    run_stage(config, inputs, tmp_path / "out")
    first, second = read_documents(tmp_path / "out")
    assert "repeated" not in first["metadata"]
    ((start, end),) = second["metadata"]["repeated"]
    assert second["text"][start:end].strip() == middle


def test_windows_of_the_same_content_have_the_same_least_hash():
    rng = np.random.default_rng(0)
    text = rng.integers(0, 3, 4000).astype(np.uint8)
    for length in (4, 7, 16, 50):
        least, gram = pieces.least_hashes(text, length), length // 2
        hashes = pieces.gram_hashes(text, gram)
        for at in range(0, len(least), 97):
            assert least[at] == hashes[at : at + length - gram + 1].min()
            assert least[at] == pieces.least_hashes(text[at : at + length].copy(), length)[0]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="length=3: 4 or more"):
        substring.Config(length=3)
    with pytest.raises(ConfigError, match="tokenizer=/not/there: no such file"):
        substring.Config(tokenizer="/not/there").before_launch()
