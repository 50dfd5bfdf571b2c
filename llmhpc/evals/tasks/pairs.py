"""Minimal pairs: of two whole sentences the right one should be the likelier, as in BLiMP (arXiv:1912.00582).

A row needs {"good", "bad"}.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.material.rows import Row
from llmhpc.evals.tasks import Material
from llmhpc.evals.tasks.data import Data


@dataclass(kw_only=True, slots=True)
class Config(Data):
    """Where the two sentences are in a row."""

    templates: ClassVar[tuple[str, ...]] = ("good", "bad")

    kind: str = "pairs"
    good: str = "{{ good }}"
    bad: str = "{{ bad }}"

    def understand(self, row: Row) -> tuple[str, str]:
        """The right sentence and the wrong one. Raises ConfigError."""
        good, bad = row.filled("good", self.good), row.filled("bad", self.bad)
        if good == bad:
            raise row.wrong("bad", f"the same as good: {good!r}")
        return good, bad


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """Every pair. Raises ConfigError for a row that is wrong."""
    items = []
    for one in cfg.gather(cfg.folder()):
        # half of the right ones stand second: else a model to which both are alike would always be right
        gold = hashlib.sha256(f"place {one.id}".encode()).digest()[0] % 2
        items.append(
            Item(
                id=one.id,
                choices=one.asked[::-1] if gold else one.asked,
                gold=(gold,),
                document=one.document,
                group=one.group,
                domain=one.domain,
            )
        )
    return [Asked(name, Form.cloze, items, cfg.metric)]
