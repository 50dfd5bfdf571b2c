"""The table of documents beside the tokens, and the tokens in the eyes of datatrove's readers."""

from collections import Counter
from contextlib import closing

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from llmhpc.jobs import tokenize, tokenizer
from llmhpc.tokens import documents
from llmhpc.tokens.reader import TokenFiles
from llmhpc.tokens.shards import read_lines

SPLITS = ("train", "heldout")
RANKS = (1, 4)


@pytest.fixture(scope="module")
def steps(prose, write_documents, run_stage, tmp_path_factory):
    """A folder with documents of three domains, a tokenizer, and what 1 and 4 ranks make of them."""
    root = tmp_path_factory.mktemp("steps")
    made = prose(300, words=40)
    for number, document in enumerate(made):
        host = ("a.org", "www.b.org", "c.org")[number % 3]
        document["metadata"] = {"url": f"https://{host}/{number}", "mix": f"set{number % 2}"}
    write_documents(root / "in", made, shards=5)
    roles = {"documents": root / "in"}
    run_stage(tokenizer.Config(vocab_size=400, heldout_fraction=0.1), roles, root / "tokenizer")
    for ranks in RANKS:
        config = tokenize.Config(ranks=ranks, heldout_fraction=0.1, file_gb=4000 / 1e9)
        run_stage(config, roles | {"tokenizer": root / "tokenizer"}, root / f"tokens{ranks}")
    return root


@pytest.fixture
def small_groups(monkeypatch):
    """Row groups of a few rows, so that a small table has many."""
    monkeypatch.setattr(documents, "ROWS", 7)


@pytest.mark.parametrize("split", SPLITS)
def test_a_row_says_where_its_document_came_from_and_where_its_tokens_lie(split, steps):
    table = pq.read_table(steps / "tokens1" / split / documents.TABLE).to_pylist()
    ends = TokenFiles(steps / "tokens1", split).ends().tolist()
    assert [row["start"] + row["tokens"] for row in table] == ends
    assert [row["start"] for row in table] == [0, *ends[:-1]]
    for row in table:
        found = lines_of(steps / "in/documents" / row["shard"])[row["line"]]
        assert (row["id"], row["url"]) == (found["id"], found["metadata"]["url"])
        assert row["bytes"] == len(found["text"].encode())
        assert row["mix"] == found["metadata"]["mix"]
        assert row["domain"] in ("a.org", "b.org", "c.org")


def lines_of(shard):
    return [orjson.loads(line) for line in read_lines([shard])]


def test_the_tokens_of_the_domains_are_all_tokens(steps):
    sums = Counter()
    for split in SPLITS:
        for batch in documents.batches(steps / "tokens1" / split, ["domain", "tokens"]):
            for row in batch.to_pylist():
                sums[row["domain"]] += row["tokens"]
    assert set(sums) == {"a.org", "b.org", "c.org"}
    assert sum(sums.values()) == sum(len(TokenFiles(steps / "tokens1", s)) for s in SPLITS)


def test_ranks_do_not_change_a_byte_of_the_table(steps, files_of):
    assert files_of(steps / "tokens1") == files_of(steps / "tokens4")


def test_rows_that_come_in_any_pieces_give_the_same_bytes(small_groups, steps, tmp_path):
    table = pq.read_table(steps / "tokens1/train" / documents.TABLE)
    whole = table.to_batches()[0]
    made = []
    for name, cuts in {"one": [], "some": [1, 2, 20, 50], "more": list(range(3, 100, 3))}.items():
        with closing(documents.DocumentsWriter(tmp_path / name)) as writer:
            for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
                writer.extend(whole.slice(start, stop - start), shift=0)
        made.append((tmp_path / name / documents.TABLE).read_bytes())
    with closing(documents.DocumentsWriter(tmp_path / "rows")) as writer:
        for row in whole.to_pylist():
            writer.add(row)
    made.append((tmp_path / "rows" / documents.TABLE).read_bytes())
    assert len(set(made)) == 1
    groups = pq.ParquetFile(tmp_path / "one" / documents.TABLE).metadata.num_row_groups
    assert groups == -(-len(whole) // 7)


def test_every_token_is_found_in_its_document(small_groups, steps, tmp_path):
    rows = pq.read_table(steps / "tokens1/train" / documents.TABLE).to_pylist()[:30]
    with closing(documents.DocumentsWriter(tmp_path)) as writer:
        for row in rows:
            writer.add(row)
    for number, row in enumerate(rows):
        for position in (row["start"], row["start"] + row["tokens"] - 1):
            assert documents.at_token(tmp_path, position) == (number, row)
    for position in (-1, rows[-1]["start"] + rows[-1]["tokens"]):
        with pytest.raises(IndexError):
            documents.at_token(tmp_path, position)


def test_datatroves_readers_open_a_split_as_it_is(steps):
    """DatatroveFolderDataset, called as nanotron's Nanoset calls it, and for each file the one that it opens."""
    from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset

    length, folder = 15, steps / "tokens1" / "train"
    tokens = TokenFiles(steps / "tokens1")
    files = list(tokens.files())
    assert len(files) > 2
    theirs = DatatroveFolderDataset(
        str(folder), length, filename_pattern="*.ds", recursive=False, token_size=2, shuffle=False
    )
    ours = [
        row[at : at + length + 1]
        for row, _ in files
        for at in range(0, len(row) - length, length + 1)
    ]
    assert len(theirs) == len(ours)
    for number, window in enumerate(ours):
        assert np.array_equal(theirs[number]["input_ids"].numpy(), window)
    assert len(DatatroveFolderDataset(str(folder), length)) == len(ours)  # their default pattern
    for path, (row, ends) in zip(sorted(folder.glob("*.ds")), files, strict=True):
        dataset = DatatroveFileDataset(str(path), len(row) - 1, return_positions=True)
        starts = np.flatnonzero(dataset[0]["positions"].numpy() == 0)
        assert starts.tolist() == [0, *ends[:-1].tolist()]
