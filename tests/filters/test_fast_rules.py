"""The rules that we count in our own way decide as datatrove's filters do, for the same reason."""

import pydoc

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters import gopher_repetition_filter as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.filters import gopher_quality, gopher_repetition
from llmhpc.filters.blocks.ngrams import Ngrams

FEW_WORDS = st.lists(st.sampled_from(["a", "ab", "b", "ba", "é", "🙂", "the", "."]), max_size=60)
PARTS = [
    "the ",
    "of ",
    "and ",
    "wind ",
    "# ",
    "... ",
    "…\n",
    "\n- ",
    "\n\n",
    "\n",
    "42 ",
    "ab! ",
    ", ",
]
TEXTS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=120).map("".join)
MODULES = ["re", "json", "asyncio", "decimal", "logging", "os", "string", "typing"]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(FEW_WORDS, st.integers(2, 10))
def test_ngrams_are_counted_as_datatrove_counts_them(words, n):
    ngrams, spaced = Ngrams(words), reference.get_n_grams(words, n)
    assert ngrams.most_frequent(n) == (reference.find_top_duplicate(spaced) if spaced else 0)
    repeated = reference.find_all_duplicate(words, n)
    assert ngrams.repeated(n) == repeated
    assert ngrams.repeated(n, enough=10) in (repeated, 0)
    assert ngrams.repeated(n, enough=10) or repeated <= 10


def decisions(text: str) -> list[tuple[object, object]]:
    """(datatrove's, ours) by each rule, with its published thresholds and with some switched off."""
    tops = {f"top_{n}_gram": 1 for n in (2, 3, 4)}
    pairs = [
        (GopherRepetitionFilter(), gopher_repetition.Config()),
        (GopherRepetitionFilter(top_n_grams=()), gopher_repetition.Config(**tops)),
        (GopherQualityFilter(), gopher_quality.Config()),
        (GopherQualityFilter(min_doc_words=1), gopher_quality.Config(min_words=1)),
    ]
    rules = {"gopher_repetition": gopher_repetition, "gopher_quality": gopher_quality}
    return [
        (stock.filter(Document(text=text, id="")), rules[cfg.kind].build(cfg).filter(Document(text=text, id="")))
        for stock, cfg in pairs
    ]  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(TEXTS.filter(lambda text: text.strip()))
def test_texts_of_odd_parts_are_decided_alike(text):
    assert all(stock == ours for stock, ours in decisions(text))


@pytest.mark.parametrize("module", MODULES)
def test_pages_of_documentation_are_decided_alike(module):
    text = pydoc.plain(pydoc.render_doc(module))
    for part in (text, text[:3000], text[-20_000:]):
        assert all(stock == ours for stock, ours in decisions(part))
