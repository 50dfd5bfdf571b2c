import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from llmhpc.dedup import minhash
from llmhpc.errors import ArtifactError, ConfigError, StageError
from llmhpc.jobs import dedup, shuffle, tokenize, tokenizer
from llmhpc.jobs.tokenize import TokenType
from llmhpc.tokens import EOS
from llmhpc.tokens.encode import open_encoder
from llmhpc.tokens.reader import TokenFiles

COPIES = 60
HELDOUT = 0.1


@pytest.fixture(scope="module")
def chain(prose, with_copies, write_documents, run_stage, tmp_path_factory):
    """A folder with the steps in, dedup, shuffle, tokenizer and tokens, and the counts of the last."""
    root = tmp_path_factory.mktemp("chain")
    documents = with_copies(prose(240), COPIES)
    documents[5]["text"] += f" {EOS} that was spelt out"
    write_documents(root / "in", documents)
    run_stage(
        dedup.Config(ranks=2, method=minhash.Config()), {"documents": root / "in"}, root / "dedup"
    )
    run_stage(shuffle.Config(ranks=3), {"documents": root / "dedup"}, root / "shuffle")
    config = tokenizer.Config(vocab_size=500, heldout_fraction=HELDOUT)
    run_stage(config, {"documents": root / "shuffle"}, root / "tokenizer")
    config = tokenize.Config(ranks=2, heldout_fraction=HELDOUT)
    return root, run_stage(config, inputs(root), root / "tokens")


def inputs(root):
    return {"documents": root / "shuffle", "tokenizer": root / "tokenizer"}


def texts(root, split):
    """The decoded documents of a split; checks that each is followed by eos and has none inside."""
    tokenizer = Tokenizer.from_file(str(root / "tokenizer/tokenizer/tokenizer.json"))
    files, start, found = TokenFiles(root / "tokens", split), 0, []
    for end in files.ends().tolist():
        ids = files.window(start, end - start).tolist()
        assert ids.index(files.eos_id) == len(ids) - 1
        found.append(tokenizer.decode(ids[:-1], skip_special_tokens=False))
        start = end
    assert start == len(files)
    return found


def test_tokens_decode_to_the_documents_in_their_order(chain, read_documents):
    root, counts = chain
    heldout = {
        document["id"]: document["text"] for document in read_documents(root / "tokens", "heldout")
    }
    rest = [d["text"] for d in read_documents(root / "shuffle") if d["id"] not in heldout]
    assert texts(root, "train") == rest
    assert texts(root, "heldout") == list(heldout.values())
    assert counts["documents"] == counts["documents_in"] == len(rest) + len(heldout)
    assert counts["heldout_documents"] == len(heldout)


def test_the_index_and_the_counts_say_what_the_files_hold(chain):
    root, counts = chain
    index = json.loads((root / "tokens/tokens.json").read_text())
    assert (index["dtype"], index["vocab_size"], index["eos_id"]) == ("uint16", 500, 0)
    assert index["train"]["files"] == ["train/00000.ds"]
    assert (root / "tokens/train/00000.ds").stat().st_size == 2 * index["train"]["tokens"]
    assert (root / "tokens/train/00000.ds.index").stat().st_size == 8 * index["train"]["documents"]
    assert counts["tokens"] == index["train"]["tokens"]
    assert counts["heldout_tokens"] == index["heldout"]["tokens"]
    assert counts["bytes"] == index["train"]["bytes"] + index["heldout"]["bytes"]
    assert 1.5 < counts["bytes_per_token"] < 6


@pytest.mark.parametrize("ranks", [1, 3, 5])
def test_ranks_and_their_order_do_not_change_a_byte(chain, ranks, run_stage, files_of, tmp_path):
    root, counts = chain
    config = tokenize.Config(ranks=ranks, heldout_fraction=HELDOUT)
    assert run_stage(config, inputs(root), tmp_path, backwards=True) == counts
    assert files_of(tmp_path) == files_of(root / "tokens")


def test_a_document_keeps_its_split_whatever_the_seed(chain, run_stage, read_documents, tmp_path):
    root, _ = chain
    run_stage(shuffle.Config(), {"documents": root / "dedup"}, tmp_path / "shuffle", seed=9)
    roles = inputs(root) | {"documents": tmp_path / "shuffle"}
    run_stage(tokenize.Config(heldout_fraction=HELDOUT), roles, tmp_path / "tokens")
    before = [document["id"] for document in read_documents(root / "tokens", "heldout")]
    after = [document["id"] for document in read_documents(tmp_path / "tokens", "heldout")]
    assert before != after
    assert sorted(before) == sorted(after)


def shingles(text, words=5):
    words_of = text.lower().replace(".", "").split()
    return {tuple(words_of[i : i + words]) for i in range(len(words_of) - words + 1)}


def test_no_near_duplicate_of_a_held_out_document_is_in_training(chain, read_documents):
    root, _ = chain
    heldout = [document["id"] for document in read_documents(root / "tokens", "heldout")]
    every = {document["id"]: shingles(document["text"]) for document in read_documents(root / "in")}
    kept = {document["id"]: every[document["id"]] for document in read_documents(root / "shuffle")}

    def closest(held, others):
        mine = every[held]
        return max(
            len(mine & o) / len(mine | o) for name, o in others.items() if name not in heldout
        )

    assert max(closest(held, every) for held in heldout) > 0.9  # there was something to keep apart
    assert max(closest(held, kept) for held in heldout) < minhash.half_similarity(14, 8)


def test_files_hold_what_file_gb_allows_and_documents_are_not_cut(chain, run_stage, tmp_path):
    root, counts = chain
    limit = 5000
    run_stage(
        tokenize.Config(ranks=2, heldout_fraction=HELDOUT, file_gb=limit / 1e9),
        inputs(root),
        tmp_path,
    )
    sizes = [path.stat().st_size for path in sorted((tmp_path / "train").glob("*.ds"))]
    assert len(sizes) > counts["tokens"] * 2 // limit
    assert max(sizes) <= limit
    assert min(sizes[:-1]) > limit // 2
    one, many = TokenFiles(root / "tokens"), TokenFiles(tmp_path)
    assert np.array_equal(one.window(0, len(one)), many.window(0, len(many)))
    assert np.array_equal(one.ends(), many.ends())


def test_a_document_longer_than_a_file_has_one_to_itself(chain, run_stage, tmp_path):
    root, _ = chain
    config = tokenize.Config(heldout_fraction=HELDOUT, file_gb=10 / 1e9)
    run_stage(config, inputs(root), tmp_path)
    tokens = TokenFiles(tmp_path)
    assert tokens.documents == len(list((tmp_path / "train").glob("*.ds")))
    assert tokens.window(0, len(tokens))[-1] == tokens.eos_id


def test_wider_tokens_hold_the_same_ids(chain, run_stage, tmp_path):
    root, _ = chain
    config = tokenize.Config(heldout_fraction=HELDOUT, dtype=TokenType.uint32)
    run_stage(config, inputs(root), tmp_path)
    wide, narrow = TokenFiles(tmp_path), TokenFiles(root / "tokens")
    assert (wide.dtype.name, narrow.dtype.name) == ("uint32", "uint16")
    assert np.array_equal(wide.window(0, len(wide)), narrow.window(0, len(narrow)))


def of_size(folder, vocab_size):
    (folder / "tokenizer").mkdir(parents=True)
    vocabulary = {EOS: 0} | {f"t{number}": number for number in range(1, vocab_size)}
    Tokenizer(models.WordLevel(vocabulary)).save(str(folder / "tokenizer/tokenizer.json"))
    return folder


def test_the_token_type_follows_the_vocabulary_size(tmp_path):
    assert open_encoder(of_size(tmp_path / "a", 65536), "auto").dtype == np.uint16
    large = of_size(tmp_path / "b", 65537)
    assert open_encoder(large, "auto").dtype == np.uint32
    with pytest.raises(ArtifactError, match="dtype=uint16: .*65537; auto or uint32"):
        open_encoder(large, "uint16")


def test_a_vocabulary_larger_than_the_token_type_is_refused_before_anything_runs():
    narrow = tokenize.Config(dtype=TokenType.uint16)
    narrow.check_with({"tokenizer": tokenizer.Config(vocab_size=65536)})
    with pytest.raises(ConfigError, match="dtype=uint16: .*vocab_size=65537; auto or uint32"):
        narrow.check_with({"tokenizer": tokenizer.Config(vocab_size=65537)})
    tokenize.Config().check_with({"tokenizer": tokenizer.Config(vocab_size=65537)})


def test_a_split_without_documents_is_a_failure_that_says_so(chain, run_stage, tmp_path):
    root, _ = chain
    with pytest.raises(StageError, match="heldout_fraction=1.0: .*to train on"):
        run_stage(tokenize.Config(heldout_fraction=1.0), inputs(root), tmp_path / "all")
    with pytest.raises(StageError, match="heldout_fraction=1e-09: .*held out"):
        run_stage(tokenize.Config(heldout_fraction=1e-9), inputs(root), tmp_path / "none")
    run_stage(tokenize.Config(heldout_fraction=0.0), inputs(root), tmp_path / "wanted")
    assert len(TokenFiles(tmp_path / "wanted", "heldout")) == 0


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="heldout_fraction=1.5"):
        tokenize.Config(heldout_fraction=1.5)
    with pytest.raises(ConfigError, match="file_gb=0: above 0"):
        tokenize.Config(file_gb=0)
