"""A list of words that is begun a second time: which of its words comes next.

No knowledge helps, only attention. Models of few parameters, or of little text, guess.
Induction, as in C. Olsson et al., In-context Learning and Induction Heads (arXiv:2209.11895), put as a choice.
"""

import random
import re
from collections import Counter
from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.material.heldout import read_documents
from llmhpc.evals.tasks import EvalTask, Material, NothingToAsk

WORD = re.compile(r"\b[a-z]{3,8}\b")
VOCABULARY = 400  # the words that most documents have


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How long the lists are."""

    kind: str = "induction"
    items: int = 200
    words: int = 8  # of a list
    metric: str = "acc_norm_pmi"

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        at_least(self, "words", 5)
        if self.words > VOCABULARY:
            raise ConfigError(f"words={self.words}: {VOCABULARY} or fewer")


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Lists of frequent words of the held-out documents.

    Raises:
        NothingToAsk: they have too few words.
    """
    counts: Counter[str] = Counter()
    for document in read_documents(material.heldout):
        counts.update(set(WORD.findall(document.text)))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:VOCABULARY]
    if len(words) < cfg.words:
        raise NothingToAsk(
            f"induction: {len(words)} words in the held-out documents, {cfg.words} needed"
        )
    return [Asked(name, Form.cloze, [_item(cfg, words, n) for n in range(cfg.items)], cfg.metric)]


def _item(cfg: Config, words: list[str], number: int) -> Item:
    draw = random.Random(f"induction {number}")
    row = draw.sample(words, cfg.words)
    place = draw.randrange(2, cfg.words - 1)
    others = [word for n, word in enumerate(row) if n not in (place, place - 1)]
    choices = [row[place], *draw.sample(others, 3)]
    draw.shuffle(choices)
    return Item(
        id=f"{number:04d}",
        prompt=f"{' '.join(row)}\n{' '.join(row[:place])}",
        choices=tuple(f" {word}" for word in choices),
        gold=(choices.index(row[place]),),
        alone="",
    )
