import json

import numpy as np
import pytest

from llmhpc.errors import ArtifactError
from llmhpc.tokens.reader import TokenFiles

FILES = [[[5, 6, 0], [7, 0]], [[8, 9, 10, 0]], [[0], [11, 0]]]  # files, documents, tokens
ROW = [token for file in FILES for document in file for token in document]


@pytest.fixture
def step(tmp_path):
    names = []
    (tmp_path / "train").mkdir()
    for number, documents in enumerate(FILES):
        names.append(f"train/{number:05d}.ds")
        np.concatenate(documents).astype("<u2").tofile(tmp_path / names[-1])
        ends = np.cumsum([len(document) for document in documents]).astype("<u8")
        ends.tofile(tmp_path / f"{names[-1]}.index")
    train = {"tokens": len(ROW), "documents": 5, "files": names}
    index = {"dtype": "uint16", "vocab_size": 12, "eos_id": 0, "train": train}
    index["heldout"] = {"tokens": 0, "documents": 0, "files": []}
    (tmp_path / "tokens.json").write_text(json.dumps(index))
    return tmp_path


def test_every_window_is_that_stretch_of_the_row(step):
    tokens = TokenFiles(step)
    assert len(tokens) == tokens.tokens == len(ROW)
    for start in range(len(ROW) + 1):
        for length in range(len(ROW) + 1 - start):
            window = tokens.window(start, length)
            assert window.dtype == np.int64
            assert window.tolist() == ROW[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, len(ROW) + 1), (len(ROW), 1), (3, -1)])
def test_a_window_outside_of_the_split_is_an_error(step, start, length):
    with pytest.raises(
        IndexError, match=f"tokens {start} to {start + length}: .*'train' has {len(ROW)}"
    ):
        TokenFiles(step).window(start, length)


def test_ends_are_positions_in_the_whole_split(step):
    tokens = TokenFiles(step)
    assert tokens.ends().tolist() == [3, 5, 9, 10, 12]
    assert [ROW[end - 1] for end in tokens.ends()] == [0] * tokens.documents


def test_a_window_is_a_copy_that_may_be_changed(step):
    tokens = TokenFiles(step)
    tokens.window(0, 4)[:] = 99
    assert tokens.window(0, 4).tolist() == ROW[:4]


def test_an_empty_split_has_no_tokens(step):
    heldout = TokenFiles(step, "heldout")
    assert len(heldout) == len(heldout.ends()) == len(heldout.window(0, 0)) == 0


def test_a_file_that_is_not_whole_is_named(step):
    path = step / "train/00001.ds"
    whole = path.read_bytes()
    for damaged, match in [
        (whole[:-1], "00001.ds: 7 bytes is no whole number of uint16"),
        (whole[:-2], "00001.ds: 3 tokens, but its .index file says 4"),
        (b"", "00001.ds: 0 tokens"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=match):
            TokenFiles(step)
    path.unlink()
    with pytest.raises(ArtifactError, match="00001.ds: no such file"):
        TokenFiles(step)


@pytest.mark.parametrize("key", ["tokens", "documents"])
def test_files_that_differ_from_the_index_are_an_error(step, key):
    index = json.loads((step / "tokens.json").read_text())
    index["train"][key] += 1
    (step / "tokens.json").write_text(json.dumps(index))
    with pytest.raises(ArtifactError, match=f"{key}, tokens.json says {index['train'][key]}"):
        TokenFiles(step)


def test_a_folder_without_an_index_or_a_split_it_lacks_is_an_error(step, tmp_path):
    with pytest.raises(ArtifactError, match="tokens.json: no such file"):
        TokenFiles(tmp_path / "train")
    with pytest.raises(ArtifactError, match="split 'test'"):
        TokenFiles(step, "test")


def test_reading_tokens_needs_no_torch():
    import subprocess
    import sys

    program = "import sys, llmhpc.tokens.reader as r; sys.exit('torch' in sys.modules or 'tokenizers' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
