"""Sentences of the held-out documents beside the same with two neighbouring words exchanged: which is the likelier.

Minimal pairs, as in A. Warstadt et al., BLiMP (arXiv:1912.00582), made by rule from text that the model has not seen.
"""

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.evals.items import Asked, Form, Item, picked
from llmhpc.evals.material.heldout import Document, read_documents
from llmhpc.evals.tasks import EvalTask, Material, NothingToAsk

SENTENCE = re.compile(r"(?:^|(?<=[.!?]\s))[A-Z][^.!?\n]*[.!?](?=\s|$)", re.MULTILINE)
WORD = re.compile(r"[A-Za-z]+")


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """Which sentences are taken."""

    kind: str = "word_order"
    items: int = 300
    min_words: int = 5  # of a sentence
    max_words: int = 20
    metric: str = "acc"

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        at_least(self, "min_words", 4)
        if self.max_words < self.min_words:
            raise ConfigError(f"max_words={self.max_words}: min_words={self.min_words} or more")

    def check_length(self, positions: int) -> None:
        """A word of letters has rarely more than four tokens; what is longer is counted when it is scored."""
        if 4 * self.max_words > positions:
            raise ConfigError(f"max_words={self.max_words}: {positions // 4} or less for the model")


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Pairs of sentences, the right one as often first as second.

    Raises:
        NothingToAsk: there is no such sentence.
    """
    documents = read_documents(material.heldout)
    items = {item.choices: item for document in documents for item in _of_document(cfg, document)}
    if not items:
        raise NothingToAsk(
            f"word_order: no sentence of {cfg.min_words} to {cfg.max_words} words in {len(documents)} documents"
        )
    return [Asked(name, Form.cloze, picked(items.values(), cfg.items), cfg.metric)]


def _of_document(cfg: Config, document: Document) -> Iterator[Item]:
    for match in SENTENCE.finditer(document.text):
        words = match.group().split(" ")
        if not cfg.min_words <= len(words) <= cfg.max_words:
            continue
        # neither the first word, whose capital would tell, nor the last with its full stop
        places = [
            n
            for n in range(1, len(words) - 2)
            if WORD.fullmatch(words[n])
            and WORD.fullmatch(words[n + 1])
            and words[n].lower() != words[n + 1].lower()
        ]
        if not places:
            continue
        identity = f"{document.id}#{match.start()}"
        place = random.Random(identity).choice(places)
        swapped = [*words[:place], words[place + 1], words[place], *words[place + 2 :]]
        first = hashlib.sha256(identity.encode()).digest()[0] % 2  # the place of the right one
        pair = [" ".join(words), " ".join(swapped)]
        choices = (pair[first], pair[1 - first])
        yield Item(id=identity, choices=choices, gold=(first,), document=document.id)
