"""What a model is asked: every question, text or prompt as it stands in ``tasks/<task>/<form>.jsonl``."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from llmhpc.errors import ArtifactError


class Form(Enum):
    """How an item is put, and so what is computed for it."""

    cloze = "cloze"  # the likelihood of the text of each answer
    letters = "letters"  # the likelihood of A, B, C, ... behind the list of answers
    target = "target"  # of the one right continuation, and whether greedy decoding gives it
    text = "text"  # of a whole text
    written = (
        "written"  # no likelihood: the model writes, and that is compared with accepted answers
    )


METRICS = {  # what a form is judged by; the first stands for a task that names none
    Form.cloze: (
        "acc_norm",
        "acc",
        "acc_norm_token",
        "acc_norm_byte",
        "acc_norm_pmi",
        "acc_norm_pmi_byte",
    ),
    Form.letters: ("acc",),
    Form.target: ("acc", "target_perplexity"),
    Form.text: ("bits_per_byte", "byte_perplexity", "word_perplexity", "token_perplexity"),
    Form.written: ("exact_match",),
}
NEED_ALONE = ("acc_norm_pmi", "acc_norm_pmi_byte")  # the likelihood without the question, too


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One thing that is asked.

    ``prompt`` is all that stands before what is scored or written, few-shot examples included; a document
    begins with it. ``choices`` are scored behind it, with the white space that they begin with: the answers
    (cloze), the letters, the one target; of a text the text alone, behind no prompt; of what is written the
    accepted answers. Where choices stand behind different texts, ``leads`` has for each the text between prompt
    and choice, which is not scored: ``before`` puts them together. ``alone`` is a prompt without the question,
    for what the answer's likelihood would be anyway (PMI). Items of one ``document`` or ``group`` (those with
    the same choices) are not independent.
    """

    id: str
    prompt: str = ""
    choices: tuple[str, ...]
    gold: tuple[int, ...] = (0,)  # the right choices
    leads: tuple[str, ...] = ()  # of each choice, or none
    alone: str | None = None
    document: str = ""  # the item's own id where it is not said
    group: str = ""  # likewise
    domain: str = ""  # scores are told for each where it is said

    @property
    def hash(self) -> str:
        """Of all that the model sees: 16 hex digits."""
        asked = json.dumps([self.prompt, self.choices, self.leads, self.alone])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    def before(self, choice: int) -> str:
        """All that stands before a choice, given by its place."""
        return self.prompt + (self.leads[choice] if self.leads else "")


class Writing(NamedTuple):
    """How much a model writes behind a prompt, and how."""

    max_tokens: int = 64
    stop: tuple[str, ...] = ("\n",)  # the first of these ends it, and is not part of it
    temperature: float = 0.0  # 0: the likeliest token each time
    samples: int = 1  # of a prompt; more than one only with a temperature
    seed: int = 0
    answer: str = ""  # a pattern: its first group, where it is found last, is the answer


class Asked(NamedTuple):
    """All items of one task in one form."""

    task: str
    form: Form
    items: list[Item]
    metric: str = ""  # the one that stands for the task; empty: the first of the form
    writing: Writing = Writing()

    @property
    def name(self) -> str:
        """Of task and form."""
        return f"{self.task}.{self.form.value}"

    @property
    def hash(self) -> str:
        """Of all that the model sees, and of how it writes: 16 hex digits."""
        asked = json.dumps([[item.id, item.hash] for item in self.items] + [list(self.writing)])
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


def write(folder: Path, asked: Asked) -> None:
    """Write <task>/<form>.jsonl below ``folder``, one line for each item, and what is not in the items beside it."""
    path = folder / asked.task / f"{asked.form.value}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.writelines(json.dumps(asdict(item)) + "\n" for item in asked.items)
    about = {"metric": asked.metric, "writing": asked.writing._asdict()}
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


def read(folder: Path) -> list[Asked]:
    """All that ``write`` left below ``folder``, by task and form.

    Raises:
        ArtifactError: there is nothing.
    """
    found = [_read(path) for path in sorted(folder.glob("*/*.jsonl"))]
    if not found:
        raise ArtifactError(f"{folder}: no task in it")
    return found


def _read(path: Path) -> Asked:
    about = json.loads(path.with_suffix(".json").read_text())
    writing = Writing(**about["writing"] | {"stop": tuple(about["writing"]["stop"])})
    lines = path.read_text().splitlines()
    return Asked(
        path.parent.name, Form(path.stem), [_item(line) for line in lines], about["metric"], writing
    )


def _item(line: str) -> Item:
    fields = json.loads(line)
    return Item(**fields | {name: tuple(fields[name]) for name in ("choices", "gold", "leads")})


class Named(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str:
        """Its own."""


Some = TypeVar("Some", bound=Named)


def picked(items: Iterable[Some], most: int) -> list[Some]:
    """At most ``most`` items, the same whatever their order: those whose ids have the least hash, in that order."""
    ordered = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return ordered[:most]
