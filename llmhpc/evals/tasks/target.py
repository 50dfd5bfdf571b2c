"""One right continuation of a text, as the last word of a passage: its likelihood, and whether greedy decoding gives it.

A row needs {"prompt", "target"}, the target with the white space that it begins with.
"""

from dataclasses import dataclass
from typing import ClassVar

from llmhpc.evals.items import Asked, Form
from llmhpc.evals.material import questions
from llmhpc.evals.material.questions import Question
from llmhpc.evals.material.rows import Row
from llmhpc.evals.tasks import Material
from llmhpc.evals.tasks.data import Shown


@dataclass(kw_only=True, slots=True)
class Config(Shown):
    """How a row becomes a text and what follows it."""

    templates: ClassVar[tuple[str, ...]] = ("prompt", "target")

    kind: str = "target"
    prompt: str = "{{ prompt }}"
    target: str = "{{ target }}"

    def put_as(self) -> list[Form]:
        """The forms that its items have."""
        return [Form.target]

    def understand(self, row: Row) -> Question:
        """Text and target. Raises ConfigError."""
        target = row.filled("target", self.target)
        return Question(row.filled("prompt", self.prompt), (target,), answer=target)


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Every text. Raises ConfigError for a row that is wrong."""
    folder = cfg.folder()
    known, pools = cfg.gather(folder), cfg.pools(folder)
    return [
        Asked(
            name, Form.target, questions.items(cfg, known, pools, lambda asked: asked), cfg.metric
        )
    ]
