import os
import random
import subprocess
import sys

import pytest
from tokenizers import Tokenizer

from llmhpc.errors import ConfigError, StageError
from llmhpc.jobs import tokenizer
from llmhpc.tokens import bpe
from llmhpc.tokens.shards import place, shard_paths

CODE = "def add(a, b):\n    if a:\n\t\treturn a + b  # sum\n    return 12345.6789\n\n\n"
TEXTS = [
    CODE,
    "Hello world! It's 2024; they'll don't   stop. \u00bfQu\u00e9? na\u00efve \u4e2d\u6587 \u0939\u093f\u0928\u094d\u0926\u0940",
    "\U0001f600\U0001f469\u200d\U0001f4bb e\u0301 \ufeff bom \u00a0 nbsp \u2028 line \x00 nul \x7f",
    "tabs\tand\r\nCRLF\r\n\r\n   trailing   \n \n",
    "  two spaces before , and . after ! ? n't 's",
    "<|endoftext|> and <|pad|> spelt out <|endoftext|>",
    "",
    " ",
    "\n",
    "\r",
]  # fmt: skip


def any_text(seed):
    """Characters from all of Unicode but surrogates, with blanks and line ends mixed in."""
    rng = random.Random(seed)
    pools = [range(1, 128), range(128, 0x800), range(0x800, 0xD800), range(0xE000, 0x110000)]
    some = (chr(rng.choice(rng.choice(pools))) for _ in range(rng.randrange(200)))
    return "".join(c + rng.choice(["", "", " ", "  ", "\n", "\r\n", "\t"]) for c in some)


@pytest.fixture(scope="module")
def pages(prose):
    pages = prose(200)
    for page in pages[:50]:
        page["text"] = (
            CODE + page["text"].replace(" ", "\n        ", 3) + "\nIt's said that they'll come"
        )
    return pages


@pytest.fixture(scope="module")
def inputs(pages, write_documents, tmp_path_factory):
    return {"documents": write_documents(tmp_path_factory.mktemp("pages"), pages)}


@pytest.fixture(scope="module")
def trained(inputs, run_stage, tmp_path_factory):
    home = tmp_path_factory.mktemp("tokenizer")
    config = tokenizer.Config(vocab_size=600, heldout_fraction=0.1)
    return run_stage(config, inputs, home), home


@pytest.fixture(scope="module")
def plain(trained):
    return Tokenizer.from_file(str(trained[1] / "tokenizer/tokenizer.json"))


@pytest.fixture(scope="module")
def automatic(trained):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(trained[1] / "tokenizer", local_files_only=True)


def test_transformers_opens_the_folder_as_a_fast_tokenizer(automatic):
    assert automatic.is_fast
    assert len(automatic) == automatic.vocab_size == 600
    assert (automatic.eos_token, automatic.bos_token, automatic.pad_token) == (
        bpe.EOS,
        bpe.EOS,
        bpe.PAD,
    )
    assert (automatic.eos_token_id, automatic.bos_token_id, automatic.pad_token_id) == (0, 0, 1)
    assert automatic("a b")["input_ids"] == automatic.encode("a b", add_special_tokens=False)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_survives_encoding(automatic, text):
    assert automatic.decode(automatic.encode(text)) == text


def test_any_text_at_all_survives_encoding(automatic):
    for text in map(any_text, range(200)):
        assert automatic.decode(automatic.encode(text)) == text


def test_a_special_token_spelt_out_in_a_document_is_ordinary_text(trained):
    encoder = bpe_encoder(trained[1])
    (ids,) = encoder.encode([f"a {bpe.EOS} b"])
    assert ids.tolist().count(0) == 1
    assert ids[-1] == 0
    assert encoder.tokenizer.decode(ids[:-1].tolist()) == f"a {bpe.EOS} b"


def bpe_encoder(home):
    from llmhpc.tokens.encode import open_encoder

    return open_encoder(home, "auto")


def test_each_digit_is_a_token(plain):
    assert plain.encode("x = 12345").tokens[-5:] == list("12345")
    assert not [
        token for token in plain.get_vocab() if sum(map(str.isdigit, token)) and len(token) > 1
    ]


def test_indentation_is_one_token_and_goes_before_the_word(plain):
    pieces = [piece for piece, _ in plain.pre_tokenizer.pre_tokenize_str("x:\n        return")]
    assert pieces == ["x", ":\u010a", "\u0120" * 7, "\u0120return"]
    assert "\u0120" * 7 in plain.get_vocab()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("it's THEY'LL 'static", ["it", "'s", " THEY", "'LL", " '", "static"]),
        ("f(x_1)==a.b;\n\n y", ["f", "(x", "_", "1", ")==", "a", ".b", ";\n\n", " y"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 e\u0301a", ["\u0939\u093f\u0928\u094d\u0926\u0940", " e\u0301a"]),
        ("a \t\r\n b", ["a", " \t\r\n", " b"]),
        ("end   ", ["end", "   "]),
    ],
)  # fmt: skip
def test_text_is_cut_where_the_pattern_says(text, pieces):
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex("|".join(bpe.PIECES)), behavior="isolated")
    assert [piece for piece, _ in split.pre_tokenize_str(text)] == pieces


def test_counts_say_what_was_read_sampled_and_measured(trained, pages):
    counts, _ = trained
    heldout = [page for page in pages if place(page["id"]) < 0.1]
    assert counts["documents_in"] == len(pages)
    assert counts["heldout_documents"] == len(heldout) > 5
    assert counts["documents"] == len(pages) - len(heldout)
    assert 1.5 < counts["heldout_bytes_per_token"] < 6


def test_the_sample_is_the_same_for_any_shards_and_fits_its_budget(
    inputs, pages, write_documents, tmp_path
):
    _, sample, heldout = bpe.pick(shard_paths(inputs["documents"]), 20_000, 0.1)
    other = shard_paths(write_documents(tmp_path, pages[::-1], shards=7))
    _, again, heldout_again = bpe.pick(other, 20_000, 0.1)
    assert sample.texts() == again.texts()
    assert heldout.texts() == heldout_again.texts()
    assert 20_000 <= sample.size_bytes < 22_000
    assert not set(sample.texts()) & set(heldout.texts())


def test_other_threads_and_hash_seeds_make_the_same_bytes(trained, inputs, tmp_path):
    program = (
        "import sys; from pathlib import Path; from llmhpc.tokens import bpe, shards\n"
        "_, sample, _ = bpe.pick(shards.shard_paths(Path(sys.argv[1])), 512_000_000, 0.1)\n"
        "bpe.save(bpe.train_bpe(sample.texts(), 600), Path(sys.argv[2]))"
    )
    for threads in "1", "3":
        folder = tmp_path / threads
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        command = [sys.executable, "-c", program, str(inputs["documents"]), str(folder)]
        subprocess.run(command, env=environment, check=True)
        for path in (trained[1] / "tokenizer").iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()


def test_too_little_text_for_the_vocabulary_says_how_far_it_would_go():
    with pytest.raises(
        StageError, match=r"vocab_size=9000: needs 8742 merges, .* only (\d+) pairs"
    ) as caught:
        bpe.train_bpe([CODE * 2], 9000)
    possible = int(str(caught.value).split(" or less")[0].split()[-1])
    assert bpe.train_bpe([CODE * 2], possible).get_vocab_size() == possible


def test_the_smallest_vocabulary_is_bytes_and_specials_and_needs_no_text():
    assert bpe.train_bpe(["x"], tokenizer.SMALLEST).get_vocab_size() == bpe.BYTES + len(
        bpe.SPECIALS
    )


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [("vocab_size", 257, "258 or more"), ("sample_mb", 0, "1 or more"), ("ranks", 2, "one task")],
)
def test_a_setting_that_cannot_work_is_refused(field, value, right):
    with pytest.raises(ConfigError, match=f"{field}={value}: .*{right}"):
        tokenizer.Config(**{field: value})
