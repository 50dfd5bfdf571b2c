"""Whole texts, whose likelihood is told in bits per byte, for each domain.

A row needs {"text"}, and says in "domain" what it is an example of.
"""

from dataclasses import dataclass
from typing import ClassVar

from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.material.rows import Row
from llmhpc.evals.tasks import Material
from llmhpc.evals.tasks.data import Data


@dataclass(kw_only=True, slots=True)
class Config(Data):
    """Where the text is in a row."""

    templates: ClassVar[tuple[str, ...]] = ("text",)

    kind: str = "text"
    text: str = "{{ text }}"

    def put_as(self) -> list[Form]:
        """The forms that its items have."""
        return [Form.text]

    def understand(self, row: Row) -> str:
        """The text. Raises ConfigError."""
        return row.filled("text", self.text)


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Every text. Raises ConfigError for a row that is wrong."""
    items = [
        Item(
            id=one.id,
            choices=(one.asked,),
            document=one.document,
            group=one.group,
            domain=one.domain,
        )
        for one in cfg.gather(cfg.folder())
    ]
    return [Asked(name, Form.text, items, cfg.metric)]
