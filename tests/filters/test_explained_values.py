"""The number that a rule reports is the number that it decided by."""

import operator
import re

import pytest
from datatrove.data import Document

from llmhpc.filters import c4, fineweb, gopher_quality, gopher_repetition

PROSE = "\n".join(
    f"The {a} and the {b} have walked with care to the {c} of their small town."
    for a in ("teacher", "doctor", "baker") for b in ("miller", "singer") for c in ("market", "river")
)  # fmt: skip
LINES = [f"Line number {n} is about thing {n * 7} in the room." for n in range(40)]
NO_TOPS = {"top_2_gram": 1, "top_3_gram": 1, "top_4_gram": 1}
CASES = [
    (gopher_repetition, {}, "\n".join([*LINES[:10], *LINES[:10]]), "dup_line_frac"),
    (gopher_repetition, {"duplicate_lines": 1}, "\n".join(LINES[:10] * 2), "dup_line_char_frac"),
    (gopher_repetition, {}, "\n\n".join(LINES[:10] * 2), "dup_para_frac"),
    (gopher_repetition, {}, "spam eggs " * 60, "top_2_gram"),
    (gopher_repetition, NO_TOPS, " ".join(LINES[:20] * 2), "duplicated_5_n_grams"),
    (gopher_quality, {}, "The few of the words.", "gopher_short_doc"),
    (gopher_quality, {"max_words": 60}, PROSE, "gopher_long_doc"),
    (gopher_quality, {}, "a to be of it " * 20, "gopher_below_avg_threshold"),
    (gopher_quality, {}, "incomprehensibilities the " * 60, "gopher_above_avg_threshold"),
    (gopher_quality, {}, PROSE + " # the" * 60, "gopher_too_many_hashes"),
    (gopher_quality, {}, PROSE + " so ... the" * 60, "gopher_too_many_ellipsis"),
    (gopher_quality, {}, PROSE.replace("The", "- The"), "gopher_too_many_bullets"),
    (gopher_quality, {}, PROSE.replace(".", "..."), "gopher_too_many_end_ellipsis"),
    (gopher_quality, {}, PROSE + " 12345" * 90, "gopher_below_alpha_threshold"),
    (gopher_quality, {}, "green apples taste nice " * 20, "gopher_enough_stop_words"),
    (c4, {}, PROSE + "\nA set {1, 2} and {3} is here.", "curly_bracket"),
    (c4, {}, PROSE + "\nLorem ipsum dolor sit amet.", "lorem_ipsum"),
    (c4, {}, "One sentence is here.\nno end\nAnother sentence is here.", "too_few_sentences"),
    (fineweb, {}, PROSE.replace(".", ""), "line_punct_ratio"),
    (fineweb, {}, "\n".join(f"Short {n}." for n in range(30)), "short_line_ratio"),
    (fineweb, {}, "\n".join([*LINES, *LINES[:5]]), "char_dup_ratio"),
    (fineweb, {"max_newlines_per_word": 0.05}, "\n".join(LINES), "list_ratio"),
]


@pytest.mark.parametrize(("rule", "settings", "text", "reason"), CASES)
def test_the_reported_value_lies_beyond_the_reported_limit(rule, settings, text, reason):
    document = Document(text=text, id="1")
    assert rule.build(rule.Config(**settings)).filter(document) == (False, reason)
    sentence = document.metadata["dropped_because"]
    value, sign, limit = re.search(r"([\d.e+-]+) ([<>]) ([\d.e+]+)$", sentence).groups()
    beyond = {"<": operator.lt, ">": operator.gt}[sign]
    assert beyond(float(value), float(limit)), sentence


@pytest.mark.parametrize("rule", [gopher_quality, c4, fineweb])
def test_prose_passes_with_the_published_thresholds(rule):
    document = Document(text=PROSE, id="1")
    assert rule.build(rule.Config()).filter(document) is True
    assert "dropped_because" not in document.metadata
