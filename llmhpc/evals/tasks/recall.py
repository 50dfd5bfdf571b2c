"""Facts that training documents state: of "X is a Y" which of four Y belongs to X."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.evals.items import Asked, Form
from llmhpc.evals.material import fours
from llmhpc.evals.material.fours import Stretch
from llmhpc.evals.material.heldout import Document, read_documents, read_training
from llmhpc.evals.tasks import EvalTask, Material, NothingToAsk

WORD = r"[\w`](?:[\w`-]|\.(?=\w))*"
FACT = re.compile(
    rf"(?:^|(?<=[.!?] ))((?:The |An? )?{WORD}(?: {WORD}){{0,3}}) (is|are|returns|means) "
    r"((?:an?|the) [^.;:!?\n]{16,90}\.)(?=\s|$)",
    re.MULTILINE,
)
EMPTY = re.compile(r"(it|this|that|there|these|those|which|what|here|they|he|she|we|you|i|default)\b", re.IGNORECASE)  # fmt: skip
CANDIDATES = 6  # for each item: facts among which those of one question are chosen


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How many facts, from how much text."""

    kind: str = "recall"
    items: int = 240
    read_mb: float = 8.0  # of the training documents
    metric: str = "acc_norm_pmi_byte"

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        at_least(self, "read_mb", 0.01)


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Facts of the documents, but for those that are held out.

    Raises:
        NothingToAsk: there are no four that can stand for each other.
    """
    heldout = {document.id for document in read_documents(material.heldout)}
    documents = [
        document
        for document in read_training(material.documents, int(cfg.read_mb * 1e6))
        if document.id not in heldout
    ]
    facts = fours.in_turns(list(_once(documents)))[: CANDIDATES * cfg.items]

    def apart(one: Stretch, other: Stretch) -> bool:
        """The same verb, and not the same thing."""
        same = one.alone == other.alone and one.answer.split()[0] == other.answer.split()[0]
        return same and one.answer.lower() != other.answer.lower()

    items = fours.items(facts, cfg.items, lambda fact: len(fact.answer), apart)
    if not items:
        raise NothingToAsk(
            f"recall: {len(facts)} facts in {len(documents)} documents, no four of a kind;"
            " a larger read_mb, or more documents"
        )
    return [Asked(name, Form.cloze, items, cfg.metric)]


def _once(documents: list[Document]) -> Iterator[Stretch]:
    """Every fact of a subject of which only one is told."""
    told: dict[str, list[Stretch]] = {}
    for document in documents:
        for match in FACT.finditer(document.text):
            subject, verb, answer = match.groups()
            if not EMPTY.match(subject.removeprefix("The ")):
                fact = Stretch(
                    f"{document.id}#{match.start()}", document.id,
                    f"{subject} {verb}", " ", answer, f"It {verb}",
                )  # fmt: skip
                told.setdefault(subject.lower(), []).append(fact)
    for facts in told.values():
        if len({fact.answer for fact in facts}) == 1:
            yield facts[0]
