"""Questions with answers to choose from: by the likelihood of each answer (cloze) or of its letter.

A row needs {"question", "choices": [two or more], "gold": the right one's place from 0, or a list of them}; it may
have "context", "id", "document", "group", "domain". Other names are told by the settings:

    question: "{{ goal }}"                        a Jinja2 template of the row's fields
    choices: "[sol1, sol2]"                       an expression
    gold: "choices.label.index(answerKey)"        an expression
"""

import string
from dataclasses import dataclass, field
from typing import ClassVar

from llmhpc.errors import ConfigError
from llmhpc.evals.items import Asked, Form
from llmhpc.evals.material import questions
from llmhpc.evals.material.prompts import Parts, Template, maker
from llmhpc.evals.material.rows import Row
from llmhpc.evals.tasks import Material
from llmhpc.evals.tasks.data import Data, Shown

FORMS = (Form.cloze, Form.letters)


@dataclass(kw_only=True, slots=True)
class Config(Shown):
    """How a row becomes a question, and how it is put."""

    templates: ClassVar[tuple[str, ...]] = ("instruction", "context", "question", "opening")
    expressions: ClassVar[tuple[str, ...]] = (*Data.expressions, "choices", "gold", "leads")

    kind: str = "choice"
    forms: list[Form] = field(default_factory=lambda: list(FORMS))
    template: Template = Template.question
    instruction: str = ""  # what the prompt begins with, before the examples
    # question: a line before the question; hellaswag: the activity; continuation and plain: what the text begins with
    context: str = "{{ context | default('') }}"
    question: str = "{{ question }}"  # or the text that the choices go on with
    opening: str = ""  # hellaswag: how the sentence of each choice begins
    choices: str = "choices"  # plain: with the white space that they begin with
    gold: str = "gold"
    leads: str = ""  # plain: one text for each choice, which stands before it and is not scored

    def put_as(self) -> list[Form]:
        """The forms that its items have."""
        return self.forms

    def __post_init__(self) -> None:
        Shown.__post_init__(self)
        if not self.forms or not set(self.forms) <= set(FORMS):
            raise ConfigError(f"forms={[f.value for f in self.forms]}: cloze, letters or both")
        plain = self.template is Template.plain
        if plain and len(self.forms) > 1:
            raise ConfigError(
                "forms=[cloze,letters]: one of them, as template=plain lists no letters"
            )
        if self.leads and not plain:
            raise ConfigError(f"leads={self.leads}: with template=plain only")
        if self.opening and self.template is not Template.hellaswag:
            raise ConfigError(f"opening={self.opening}: with template=hellaswag only")

    def understand(self, row: Row) -> Parts:
        """The parts of a question. Raises ConfigError."""
        choices = row.strings("choices", self.choices, least=2)
        if Form.letters in self.forms and len(choices) > len(string.ascii_uppercase):
            raise row.wrong("choices", f"{len(choices)}, more than there are letters")
        leads = row.strings("leads", self.leads, least=2) if self.leads else []
        if leads and len(leads) != len(choices):
            raise row.wrong("leads", f"{len(leads)} for {len(choices)} choices")
        return Parts(
            instruction=row.text("instruction", self.instruction),
            context=row.text("context", self.context),
            question=row.text("question", self.question),
            opening=row.text("opening", self.opening),
            choices=tuple(choices),
            gold=row.indices("gold", self.gold, among=len(choices)),
            leads=tuple(leads),
        )


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Every question in each of the forms. Raises ConfigError for a row that is wrong."""
    folder = cfg.folder()
    known, pools = cfg.gather(folder), cfg.pools(folder)
    return [
        Asked(
            name,
            form,
            questions.items(cfg, known, pools, maker(cfg.template, form)),
            # letters have one metric only, so a choice of one is for the other form
            cfg.metric if form is Form.cloze or len(cfg.forms) == 1 else "",
        )
        for form in cfg.forms
    ]
