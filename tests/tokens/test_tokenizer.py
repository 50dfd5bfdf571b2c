import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from llmhpc.errors import ConfigError, StageError
from llmhpc.jobs import tokenizer
from llmhpc.tokens import BYTES, EOS, PAD, SPECIALS, bpe
from llmhpc.tokens.shards import place

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
        EOS,
        EOS,
        PAD,
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
    (ids,) = encoder.encode([f"a {EOS} b"])
    assert ids.tolist().count(0) == 1
    assert ids[-1] == 0
    assert encoder.tokenizer.decode(ids[:-1].tolist()) == f"a {EOS} b"


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
@pytest.mark.parametrize("digits", bpe.NUMBERS)
def test_text_is_cut_where_the_pattern_says(digits, text, pieces):
    assert cut(digits, text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("1 12 123", ["1", " ", "12", " ", "123"]),
        ("1234", ["1", "234"]),
        ("12345678", ["12", "345", "678"]),
        ("x65536=3.14159", ["x", "65", "536", "=", "3", ".", "14", "159"]),
        ("12\u0663\u0664", ["12", "\u0663", "\u0664"]),
        ("9" * 33, ["999"] * 11),
        ("9" * 40, ["999"] * 3 + ["9"] + ["999"] * 10),
    ],
)
def test_numbers_are_cut_in_threes_from_the_right(text, pieces):
    assert cut("up_to_999", text) == pieces


def test_a_million_digits_take_no_longer_than_a_million_letters():
    begun = time.process_time()
    assert len(cut("up_to_999", "7" * 300_000)) >= 100_000
    assert time.process_time() - begun < 20


def cut(digits, text):
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(bpe.pattern(digits)), behavior="isolated")
    return [piece for piece, _ in split.pre_tokenize_str(text)]


@pytest.fixture(scope="module")
def rich():
    """A tokenizer with every setting, learnt from little text."""
    specials = ["<|user|>", "<|assistant|>"]
    return bpe.train_bpe([CODE * 9, *TEXTS * 2], 1450, "up_to_999", 24, specials)


def test_every_number_of_one_to_three_digits_is_a_token(rich):
    for length in 1, 2, 3:
        for number in range(10**length):
            assert len(rich.encode(f"{number:0{length}d}").ids) == 1
    assert rich.encode("1234567 + 7").tokens == ["1", "234", "567", "\u0120+", "\u0120", "7"]
    assert rich.get_vocab_size() == 1450


def test_every_run_of_blanks_up_to_the_setting_is_a_token(rich):
    assert [len(rich.encode(" " * n).ids) for n in range(1, 25)] == [1] * 24
    assert rich.encode("if a:\n" + " " * 24 + "return").tokens[3] == "\u0120" * 23
    assert rich.decode(rich.encode("x" + " " * 100 + "y").ids) == "x" + " " * 100 + "y"


def test_every_token_of_a_merge_is_the_merge_of_two_others(rich):
    model = json.loads(rich.to_str())["model"]
    made = [a + b for a, b in model["merges"]]
    assert len(set(made)) == 1450 - 256 - 4
    assert sorted(model["vocab"].values()) == list(range(1450))


def test_special_tokens_follow_the_own_ones_and_no_text_gets_their_ids(rich, tmp_path):
    from transformers import AutoTokenizer

    from llmhpc.tokens.encode import open_encoder

    assert [rich.token_to_id(name) for name in ("<|user|>", "<|assistant|>")] == [2, 3]
    bpe.save(rich, tmp_path / "tokenizer")
    (ids,) = open_encoder(tmp_path, "auto").encode(["<|user|>x<|assistant|>"])
    assert min(ids[:-1]) > 3
    opened = AutoTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    assert opened.encode("<|user|>x")[0] == 2
    assert opened.decode(opened.encode("<|user|>x"), skip_special_tokens=True) == "x"


def test_a_further_special_token_leaves_the_ids_of_the_others_as_they_are():
    ids = [bpe.train_bpe(["x"], 258 + n, special_tokens=["<|a|>", "<|b|>"][:n]) for n in (1, 2)]
    assert [t.token_to_id("<|a|>") for t in ids] == [2, 2]


def test_the_vocabulary_is_a_multiple_and_merges_fill_it(inputs, run_stage, tmp_path):
    config = tokenizer.Config(vocab_size=500, vocab_multiple=128)
    assert config.vocab_size == 512
    assert run_stage(config, inputs, tmp_path)["vocab_size"] == 512
    opened = Tokenizer.from_file(str(tmp_path / "tokenizer/tokenizer.json"))
    assert opened.get_vocab_size() == 512 == len(set(opened.get_vocab().values()))


def test_counts_say_what_was_read_sampled_and_measured(trained, pages):
    counts, _ = trained
    heldout = [page for page in pages if place(page["id"]) < 0.1]
    assert counts["documents_in"] == len(pages)
    assert counts["heldout_documents"] == len(heldout) > 5
    assert counts["documents"] == len(pages) - len(heldout)
    assert 1.5 < counts["heldout_bytes_per_token"] < 6


def test_other_threads_and_hash_seeds_make_the_same_bytes(trained, inputs, tmp_path):
    program = (
        "import sys; from pathlib import Path; from llmhpc.tokens import bpe, sample, shards\n"
        "picked = sample.pick(shards.shard_paths(Path(sys.argv[1])), 512_000_000, 0.1)\n"
        "bpe.save(bpe.train_bpe(picked.samples['train'].texts(), 600), Path(sys.argv[2]))"
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
        StageError, match=r"vocab_size=9000: needs \d+ merges more, .* only (\d+) pairs"
    ) as caught:
        bpe.train_bpe([CODE * 2], 9000)
    possible = int(str(caught.value).split(" or less")[0].split()[-1])
    assert bpe.train_bpe([CODE * 2], possible).get_vocab_size() == possible


def test_the_smallest_vocabulary_is_bytes_and_specials_and_needs_no_text():
    assert tokenizer.Config(vocab_size=258).vocab_size == BYTES + len(SPECIALS)
    assert bpe.train_bpe(["x"], 258).get_vocab_size() == 258
    full = tokenizer.Config(
        vocab_size=1384,
        digits=tokenizer.Digits.up_to_999,
        blank_run=24,
        special_tokens=["<|u|>", "<|a|>", "<|t|>"],
    )
    made = bpe.train_bpe(["x"], full.vocab_size, "up_to_999", 24, full.special_tokens)
    assert made.get_vocab_size() == 1384


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("vocab_size", 257, "vocab_size=257: 258 or more"),
        ("sample_mb", 0, "sample_mb=0: 1 or more"),
        ("vocab_multiple", 0, "vocab_multiple=0: 1 or more"),
        ("blank_run", 0, "blank_run=0: 1 or more"),
        ("special_tokens", ["user"], "special_tokens.0='user': a name like <|user|>"),
        ("special_tokens", ["<|-|>"], "special_tokens.0='<|-|>': a name like <|user|>"),
        ("special_tokens", ["<|a|>", "<|a|>"], "special_tokens.1='<|a|>': is there already"),
        ("special_tokens", [EOS], f"special_tokens.0='{EOS}': is there already"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(field, value, right):
    with pytest.raises(ConfigError, match=re.escape(right)):
        tokenizer.Config(**{field: value})


def test_a_sample_that_memory_will_not_hold_is_said_before_the_start():
    inputs, out = {}, Path("none")
    assert not tokenizer.Config().foresee(inputs, out, machine_gb=None)
    (finding,) = tokenizer.Config(sample_mb=4096).foresee(inputs, out, machine_gb=None)
    assert finding.estimate
    right = "sample_mb=4096: takes 12.7 GB, resources.mem_gb=2; 533 or less, or more memory"
    assert finding.message == right


def test_a_field_that_no_document_has_is_named(inputs, run_stage, tmp_path):
    config = tokenizer.Config(vocab_size=300, sample_by="planet")
    with pytest.raises(StageError, match="sample_by=planet: no document has it"):
        run_stage(config, inputs, tmp_path)


def test_without_held_out_documents_there_is_a_tokenizer_and_nothing_measured(
    inputs, run_stage, tmp_path
):
    config = tokenizer.Config(vocab_size=300, heldout_fraction=0)
    counts = run_stage(config, inputs, tmp_path)
    assert (counts["heldout_documents"], counts["heldout_bytes_per_token"]) == (0, 0)
    seen = json.loads((tmp_path / "inspection.json").read_text())
    assert seen["heldout"]["bytes_per_token"] is None


def test_a_model_has_to_have_the_rounded_vocabulary():
    from llmhpc.planning.compose import compose
    from llmhpc.planning.plan import plan

    words = ["stages.tokenizer.vocab_size=4000", "stages.tokenizer.vocab_multiple=128"]
    wrong = "model.vocab_size=4000: 4096, as the tokenizer step has"
    assert plan(compose(words))
    with pytest.raises(ConfigError, match=wrong):
        plan(compose([*words, "stages.train.model.vocab_size=4000"]))
