"""Questions that the model answers in its own words: the answer is found in the text and compared with accepted ones.

A row needs {"prompt", "answers": [one or more accepted]}; "solution" is what an example shows (few-shot).
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.evals.items import Asked, Form, Writing
from llmhpc.evals.material import questions
from llmhpc.evals.material.questions import Question
from llmhpc.evals.material.rows import Row
from llmhpc.evals.tasks import Material
from llmhpc.evals.tasks.data import Data, Shown


@dataclass(kw_only=True, slots=True)
class Config(Shown):
    """How a row becomes a question, and how the model writes."""

    templates: ClassVar[tuple[str, ...]] = ("prompt", "solution")
    expressions: ClassVar[tuple[str, ...]] = (*Data.expressions, "answers")

    kind: str = "written"
    prompt: str = "{{ prompt }}"
    answers: str = "answers"
    solution: str = " {{ solution | default(answers[0]) }}"  # with the white space before it
    max_tokens: int = 64
    stop: list[str] = field(default_factory=lambda: ["\n"])  # the first of these ends a text
    temperature: float = 0.0  # 0: the likeliest token each time
    samples: int = 1  # texts for each question; more than one with a temperature only
    seed: int = 0
    answer: str = (
        ""  # a pattern whose first group, where it is found last, is the answer; empty: all of it
    )

    def put_as(self) -> list[Form]:
        """The forms that its items have."""
        return [Form.written]

    def __post_init__(self) -> None:
        Shown.__post_init__(self)
        for name, least in (("max_tokens", 1), ("samples", 1), ("temperature", 0)):
            at_least(self, name, least)
        if self.samples > 1 and not self.temperature:
            raise ConfigError(f"samples={self.samples}: 1, or a temperature above 0")
        if "" in self.stop:
            raise ConfigError(f"stop={self.stop}: no empty text")
        try:
            groups = re.compile(self.answer).groups
        except re.error as error:
            raise ConfigError(f"answer={self.answer}: {error}") from None
        if self.answer and not groups:
            raise ConfigError(f"answer={self.answer}: a pattern with a group in ( )")

    def understand(self, row: Row) -> Question:
        """Question and accepted answers. Raises ConfigError."""
        return Question(
            prompt=row.filled("prompt", self.prompt),
            choices=tuple(row.strings("answers", self.answers, least=1)),
            answer=row.text("solution", self.solution) if self.shots else "",
        )


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Every question. Raises ConfigError for a row that is wrong."""
    folder = cfg.folder()
    known, pools = cfg.gather(folder), cfg.pools(folder)
    writing = Writing(
        max_tokens=cfg.max_tokens,
        stop=tuple(cfg.stop),
        temperature=cfg.temperature,
        samples=cfg.samples,
        seed=cfg.seed,
        answer=cfg.answer,
    )
    items = questions.items(cfg, known, pools, lambda asked: asked)
    return [Asked(name, Form.written, items, cfg.metric, writing)]
