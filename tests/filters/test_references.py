"""The rules decide, edit and count as datatrove's filters do, and their words and sentences are spaCy's."""

import importlib.metadata
from itertools import islice

import pytest
from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import get_filter_result
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.filters import Splitter, c4, fineweb, gopher_quality, gopher_repetition
from llmhpc.filters.blocks.pages import decode
from llmhpc.filters.blocks.resilient import main_text
from llmhpc.filters.blocks.words import splitting
from llmhpc.planning.compose import compose
from llmhpc.sources import Reading, pages_of

LOOSE = {"top_2_gram": 0.5, "top_3_gram": 0.5, "top_4_gram": 0.5, "dup_5_grams": 0.5}
CONFIGS = [
    *(c4.Config(), c4.Config(only_terminal_punctuation=False, drop_curly_bracket=False)),
    c4.Config(min_sentences=0, min_words_per_line=0, max_word_characters=12),
    c4.Config(only_terminal_punctuation=False, min_sentences=40, remove_citations=False),
    *(fineweb.Config(), fineweb.Config(min_lines_ending_in_punctuation=0, max_short_lines=1)),
    fineweb.Config(max_short_lines=0.9, max_duplicate_line_characters=1, max_newlines_per_word=0.1),
    *(gopher_quality.Config(), gopher_quality.Config(min_words=1, min_alphabetic_words=0.2)),
    gopher_quality.Config(min_words=1, max_symbol_word_ratio=0.01, max_bullet_lines=0.1),
    gopher_quality.Config(min_words=5, min_mean_word_characters=0, max_mean_word_characters=5),
    *(gopher_repetition.Config(), gopher_repetition.Config(**LOOSE)),
    gopher_repetition.Config(duplicate_lines=0.9, duplicate_line_characters=0.9, top_2_gram=0.02),
]
MODULES = {rule.Config: rule for rule in (c4, fineweb, gopher_quality, gopher_repetition)}
PARTS = [
    *("the", "The cat sat.", "of and", "don't", "U.S.A.", "[1]", "[edit]", "...", "…", "•", "- ", "#"),
    *(":)", ") :", "javascript", "use cookies", "Lorem ipsum", "{", "}", "½", "²", "١٢", "\x1c", "中文。"),
    *("नमस्ते।", "e\u0301", "🙂", "\u200b", "\xad", "\u2028", "?!", '"', "so it goes again and again", "IS_ALPHA"),
]  # fmt: skip
BLANKS = [" ", " ", " ", "", "  ", "\n", "\n", "\n\n", "\t", "\u00a0", "\r\n", "\x85"]
TEXT = st.lists(
    st.tuples(st.sampled_from(PARTS) | st.text(max_size=4), st.sampled_from(BLANKS)), max_size=60
)


def outcome(block, counter, text):
    """(kept, reason), the text then, and the lines counted."""
    document = Document(text=text, id="1")
    before = counts(counter)
    kept, reason = get_filter_result(block.filter(document))
    lines = {name: n - before.get(name, 0) for name, n in counts(counter).items()}
    return kept, reason, document.text, {name: n for name, n in lines.items() if n} if kept else {}


def counts(block):
    return {name: stat.total for name, stat in block.stats.stats.items() if name[:5] == "line-"}


def check(texts, by):
    for cfg in CONFIGS:
        rule = MODULES[type(cfg)]
        ours, reference = rule.build(cfg), rule.reference(cfg)
        judge = getattr(ours, "judge", ours)
        expected = [outcome(reference, reference, text) for text in texts]
        with splitting(by):
            for text, right in zip(texts, expected, strict=True):
                assert outcome(ours, judge, text) == right, (cfg, text)


@given(TEXT)
@settings(max_examples=60, deadline=None)
def test_odd_text_is_judged_as_by_datatrove(parts):
    text = "".join(part + blank for part, blank in parts)
    if text.replace("IS_ALPHA", "").split():  # else datatrove's own rules divide by no words
        check([text], Splitter.spacy)


def test_real_texts_are_judged_as_by_datatrove_on_remembered_words():
    found = (d.metadata.get_payload() or "" for d in importlib.metadata.distributions())
    check(
        list(islice((text for text in found if 1500 < len(text) < 8000), 25)), Splitter.remembered
    )


@pytest.mark.slow
def test_pages_of_the_quickstart_are_judged_as_by_datatrove_on_remembered_words():
    source = compose([]).stages["collect"].source
    pages = pages_of(source, Reading(rank=0, ranks=4))
    texts = [main_text(decode(page.body, page.content_type)) for page in pages]
    check([text for text in texts if text.split()], Splitter.remembered)
