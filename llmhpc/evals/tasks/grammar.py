"""Sentences from templates, right and with one word that does not agree: which is the likelier.

Minimal pairs as in A. Warstadt et al., BLiMP (arXiv:1912.00582): subject and verb, also with a noun of the other
number between them, determiner and noun, pronoun and verb. A domain of scores for each.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from llmhpc.evals.items import Asked, Form, Item, picked
from llmhpc.evals.tasks import EvalTask, Material

NOUNS = {  # singular -> plural
    "name": "names", "value": "values", "line": "lines", "word": "words", "number": "numbers", "file": "files",
    "list": "lists", "page": "pages", "table": "tables", "question": "questions", "answer": "answers",
    "problem": "problems", "letter": "letters", "book": "books", "picture": "pictures", "house": "houses",
    "door": "doors", "child": "children", "woman": "women", "friend": "friends", "city": "cities",
    "country": "countries", "game": "games", "law": "laws",
}  # fmt: skip
ENDS = ("new", "different", "long", "very large", "not known", "good", "old", "always the same")
VERBS = (("is", "are"), ("was", "were"), ("has been", "have been"))  # singular, plural
Sentence = tuple[str, str, str]  # domain, the right one, the wrong one


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How many sentences."""

    kind: str = "grammar"
    items: int = 300
    metric: str = "acc"


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Pairs, of every kind about as many."""
    kinds = [_agreement(), _attraction(), _determiner(), _pronoun()]
    each = -(-cfg.items // len(kinds))
    items = [item for kind in kinds for item in picked(map(_item, kind), each)]
    return [Asked(name, Form.cloze, picked(items, cfg.items), cfg.metric)]


def _item(sentence: Sentence) -> Item:
    domain, right, wrong = sentence
    first = random.Random(right).randrange(2)
    choices = (right, wrong) if first == 0 else (wrong, right)
    return Item(id=right, choices=choices, gold=(first,), domain=domain)


def _both(domain: str, frame: str, number: int, forms: tuple[str, str], **words: str) -> Sentence:
    """The frame with the form of a number (0 singular, 1 plural), and with the other."""
    right, wrong = (frame.format(form=forms[n], **words) for n in (number, 1 - number))
    return domain, right, wrong


def _agreement() -> Iterator[Sentence]:
    for noun, verb, end in itertools.product(NOUNS.items(), VERBS, ENDS):
        for number in (0, 1):
            frame = "The {noun} {form} {end}."
            yield _both("verb", frame, number, verb, noun=noun[number], end=end)


def _attraction() -> Iterator[Sentence]:
    for (noun, other), verb in itertools.product(itertools.permutations(NOUNS.items(), 2), VERBS):
        for number in (0, 1):
            frame = "The {noun} of the {other} {form} new."
            yield _both(
                "verb behind another noun", frame, number, verb,
                noun=noun[number], other=other[1 - number],
            )  # fmt: skip


def _determiner() -> Iterator[Sentence]:
    for noun, pair in itertools.product(NOUNS.items(), (("this", "these"), ("that", "those"))):
        for number, start in itertools.product(
            (0, 1), ("We need", "There is no end of", "Look at")
        ):
            frame = start + " {form} {noun}."
            yield _both("determiner", frame, number, pair, noun=noun[number])


def _pronoun() -> Iterator[Sentence]:
    for verb, end, pair in itertools.product(VERBS, ENDS, (("it", "they"), ("she", "we"))):
        for number, start in itertools.product((0, 1), ("If", "When", "Because")):
            frame = f"{start} {pair[number]} {{form}} {{end}}, wait."
            yield _both("pronoun", frame, number, verb, end=end)
