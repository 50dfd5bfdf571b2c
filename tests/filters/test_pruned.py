"""The fast way of asking a pruned fastText model says what fastText says."""

import random

import numpy as np
import pytest
from fasttext.FastText import _FastText

from llmhpc.filters import language
from llmhpc.filters.models import pruned, supervised

CLOSE = 1e-5  # sums of float32 in another order
PIECES = [
    "the", "Haus", "été", "это", "日本語", "😀", "naïve,", "x", "</s", "a\u00a0b", "a\tb", "\v", "\f\r", "\0", "  ",
    "self.assertEqual(a[0]", "\u2028", "…", "ÿ", "\x85", "<>", "don't",
]  # fmt: skip
LID = language.model_file(language.Config())


def train(path, cutoff: int, **more) -> None:
    """A model of a few words, pruned to ``cutoff`` rows if that is not 0."""
    draw = random.Random(0)
    rows = [
        (label, " ".join([*draw.choices(PIECES[:5], k=9), f"{label}x"])) for label in "abc" * 40
    ]
    settings = {"dim": 8, "minn": 2, "maxn": 5, "bucket": 5000}
    supervised.train(rows, path, **settings | more)
    if cutoff:
        texts = path.with_name("lines")
        texts.write_text("".join(f"__label__{a} {b}\n" for a, b in rows), encoding="utf-8")
        model = _FastText(str(path))
        model.quantize(str(texts), cutoff=cutoff, thread=1, verbose=0)
        model.save_model(str(path))


def texts(count: int) -> list[str]:
    draw = random.Random(1)
    alphabet = "abcdefgh ijklm nopq<>._é\u0431\u3042\U0001f600"
    made = [" ".join(draw.choices(PIECES, k=draw.randrange(1, 900))) for _ in range(count)]
    return made + ["".join(draw.choices(alphabet, k=draw.randrange(1, 5000))) for _ in range(count)]


def assert_equal(model, stock, text: str) -> None:
    for k in (-1, 1, 5):
        (labels, scores), (others, theirs) = model.predict(text, k=k), stock.predict(text, k=k)
        assert len(labels) == len(others) and labels[0] == others[0]
        np.testing.assert_allclose(scores, theirs, atol=CLOSE, rtol=0)
        if k < 0:
            ours, expected = (
                dict(zip(*both, strict=True)) for both in ((labels, scores), (others, theirs))
            )
            assert ours == pytest.approx(expected, abs=CLOSE)


def test_every_label_has_the_probability_that_fasttext_gives_it(monkeypatch, tmp_path):
    monkeypatch.setattr(pruned, "SHORT", 0)
    monkeypatch.setattr(pruned, "AT_ONCE", 64)
    train(tmp_path / "softmax", 300)
    for path in (LID, tmp_path / "softmax"):
        model, stock = pruned.load(path), _FastText(str(path))
        assert isinstance(model, pruned.Pruned)
        for text in ["", " ", "x", *texts(60)]:
            assert_equal(model, stock, text)


def test_what_fasttext_reads_otherwise_is_left_to_it(monkeypatch):
    monkeypatch.setattr(pruned, "SHORT", 0)
    model, stock = pruned.load(LID), _FastText(str(LID))
    for text in ("this is </s> das ist nicht dabei", "__label__en das ist ein Satz", "</s> x"):
        assert_equal(model, stock, text)
    with pytest.raises(ValueError, match="one line at a time"):
        model.predict("two\nlines")


def test_a_model_that_is_not_pruned_or_counts_pairs_of_words_is_fasttexts_own(tmp_path):
    for name, cutoff, more in (
        ("whole", 0, {}),
        ("pairs", 300, {"wordNgrams": 2}),
        ("ova", 300, {"loss": "ova"}),
    ):
        train(tmp_path / name, cutoff, **more)
        assert isinstance(pruned.load(tmp_path / name), _FastText)
