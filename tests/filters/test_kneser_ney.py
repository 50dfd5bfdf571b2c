"""n-gram models: modified Kneser-Ney by its definition, in plain Python, and KenLM's reading of our files."""

import math
import random
from collections import Counter, defaultdict

import pytest

from llmhpc.filters.models import kneser_ney as kn

RNG = random.Random(5)
VOCABULARY = [chr(97 + n // 26) + chr(97 + n % 26) for n in range(90)]
LINES = [RNG.choices(VOCABULARY, weights=[1 / (n + 1) for n in range(90)], k=RNG.randint(1, 9))
         for _ in range(150)]  # fmt: skip


def by_definition(lines, order):
    """p(word | context) for any context, after Chen and Goodman, with dictionaries and no cleverness."""
    sequences = [["<s>", *line, "</s>"] for line in lines]
    raw = [Counter() for _ in range(order + 1)]
    for seq in sequences:
        for n in range(1, order + 1):
            raw[n].update(tuple(seq[i : i + n]) for i in range(len(seq) - n + 1))
    del raw[1][("<s>",)]
    adjusted = {order: raw[order]}
    for n in range(1, order):
        left = defaultdict(set)
        for gram in raw[n + 1]:
            left[gram[1:]].add(gram[0])
        adjusted[n] = {g: c if g[0] == "<s>" else len(left[g]) for g, c in raw[n].items()}
    vocabulary = {w for seq in sequences for w in seq} - {"<s>"} | {"<unk>"}
    discount = {}
    for n, table in adjusted.items():
        t = Counter(table.values())
        y = t[1] / (t[1] + 2 * t[2])
        discount[n] = [0, *(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))]
    follow = defaultdict(dict)
    for table in adjusted.values():
        for gram, c in table.items():
            follow[gram[:-1]][gram[-1]] = c

    def p(word, context):
        if len(context) >= order or (context and context not in follow):
            return p(word, context[1:])
        lower = p(word, context[1:]) if context else 1 / len(vocabulary)
        counts, d = follow[context], discount[len(context) + 1]
        total, c = sum(counts.values()), counts.get(word, 0)
        gamma = sum(d[min(x, 3)] for x in counts.values()) / total
        return (c - d[min(c, 3)]) / total + gamma * lower

    return p, vocabulary


@pytest.fixture(scope="module")
def arpa(tmp_path_factory):
    model = kn.estimate(LINES, 3)
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    kn.write_arpa(model, path)
    return model, path


def conditional(path):
    """p(word | context) as an ARPA file says it."""
    order, table = kn.read_arpa(path)

    def p(word, context):
        context = context[-(order - 1) :]
        if (entry := table.get(" ".join([*context, word]))) is not None:
            return 10 ** entry[0]
        return 10 ** table.get(" ".join(context), (0, 0))[1] * p(word, context[1:])

    return p


SEEN = [tuple(line[i : i + 2]) for line in LINES[:8] for i in range(len(line) - 1)]
CONTEXTS = [(), ("<s>",), ("<s>", "aa"), ("<s>", "dc"), ("aa", "q"), ("cs", "aa"), *SEEN]


def test_every_probability_is_that_of_the_definition(arpa):
    model, path = arpa
    assert model.estimated == [True] * 3
    truth, vocabulary = by_definition(LINES, 3)
    ours = conditional(path)
    for context in CONTEXTS:
        for word in vocabulary:
            assert ours(word, context) == pytest.approx(truth(word, context), rel=2e-6), (
                word,
                context,
            )


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_add_up_to_one_behind_every_context(tmp_path, order):
    kn.write_arpa(kn.estimate(LINES, order), tmp_path / "m.arpa")
    ours = conditional(tmp_path / "m.arpa")
    words = {word for line in LINES for word in line} | {"</s>", "<unk>"}
    for context in CONTEXTS:
        context = context[-(order - 1) :] if order > 1 else ()
        assert sum(ours(word, context) for word in words) == pytest.approx(1, abs=1e-5)


def test_kenlm_scores_our_file_as_we_do(arpa):
    pytest.importorskip("kenlm", reason="the extra ngrams is not installed")
    _, path = arpa
    theirs, ours = kn.kenlm_scorer(path), kn.arpa_scorer(path)
    for line in [*LINES[:50], VOCABULARY[::-1], ["aa", "unheard", "ab"], ["unheard"]]:
        assert ours(line) == pytest.approx(theirs(line), rel=1e-5)


def test_the_order_of_sentences_does_not_matter(tmp_path):
    for name, lines in (("one", LINES), ("two", LINES[::-1])):
        kn.write_arpa(kn.estimate(lines, 3), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_text_too_small_for_discounts_falls_back_and_says_so():
    model = kn.estimate([["a", "b"], ["a", "c"]], 2)
    assert model.estimated == [False, False]
    assert all(math.isfinite(p) for table in model.tables for p in table.log_p)


def test_words_that_look_like_marks_of_a_sentence_are_left_out(tmp_path):
    kn.write_arpa(kn.estimate([*LINES, ["<s>", "a", "</s>"]], 2), tmp_path / "one")
    kn.write_arpa(kn.estimate([*LINES, ["a"]], 2), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_text_like_what_was_learned_has_the_lower_perplexity(arpa):
    score = kn.arpa_scorer(arpa[1])
    assert kn.perplexity(" ".join(LINES[0]), score) < kn.perplexity("dc dc db\nx y", score)
    assert kn.perplexity(" \n", score) > 1e200
    assert list(kn.sentences("A 1,5\n\nb")) == [["a", "0", ",", "0"], ["b"]]
