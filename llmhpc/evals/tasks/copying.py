"""A rare word that a held-out document has for the second time: which of four such words stood there before.

The other three are of other documents, and are right in their own questions, so that nothing but the text tells.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.evals.items import Asked, Form
from llmhpc.evals.material import fours
from llmhpc.evals.material.fours import Stretch
from llmhpc.evals.material.heldout import Document, read_documents
from llmhpc.evals.tasks import EvalTask, Material, NothingToAsk

WORD = re.compile(r"(?<=[ (])[A-Za-z_][\w.]{3,16}(?=[\s,():;])")
RARE = 0.01  # of the documents have the word; at least it may be in two
CANDIDATES = 8  # for each item: words among which those of one question are chosen


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How far back the word stands."""

    kind: str = "copying"
    items: int = 240
    context_characters: int = 256  # text shown of a question, which has the word
    metric: str = "acc_norm_pmi"

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        at_least(self, "context_characters", 32)


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Questions of the held-out documents.

    Raises:
        NothingToAsk: there are no four words that can stand for each other.
    """
    documents = read_documents(material.heldout)
    words = Counter(word for document in documents for word in set(WORD.findall(document.text)))
    most = max(2, int(RARE * len(documents)))
    rare = {word for word, count in words.items() if count <= most}
    found = [again for document in documents for again in _again(cfg, document, rare)]

    def apart(one: Stretch, other: Stretch) -> bool:
        """Neither text has the other's word."""
        first, second = one.answer.lower(), other.answer.lower()
        return first not in other.prompt.lower() and second not in one.prompt.lower()

    candidates = fours.in_turns(found)[: CANDIDATES * cfg.items]
    items = fours.items(candidates, cfg.items, lambda again: len(again.answer), apart)
    if not items:
        raise NothingToAsk(
            f"copying: {len(found)} rare words twice within {cfg.context_characters} characters of {len(documents)}"
            " held-out documents, no four that can be asked together"
        )
    return [Asked(name, Form.cloze, items, cfg.metric)]


def _again(cfg: Config, document: Document, rare: set[str]) -> Iterator[Stretch]:
    """The first place of each rare word at which the text before has it already."""
    last: dict[str, int] = {}
    done: set[str] = set()
    for match in WORD.finditer(document.text):
        word, place = match.group(), match.start()
        before = last.get(word, -cfg.context_characters)
        last[word] = place
        begin = max(0, place - cfg.context_characters)
        if word in done or word not in rare or before <= begin or document.text[place - 1] != " ":
            continue
        done.add(word)
        prompt = document.text[begin : place - 1]
        if begin and " " in prompt[: before - begin]:
            prompt = prompt.split(" ", 1)[1]  # no half word at its beginning
        yield Stretch(f"{document.id}#{place}", document.id, prompt, " ", word)
