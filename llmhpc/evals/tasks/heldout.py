"""The held-out documents as texts whose likelihood is asked for: bits per byte, in all and by domain."""

from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.material.heldout import cut_to_budget, read_documents
from llmhpc.evals.tasks import EvalTask, Material


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How much is read."""

    kind: str = "heldout"
    bytes: int = 80_000  # of all documents together, an equal share from each
    items: int = 100_000  # documents at most

    def put_as(self) -> list[Form]:
        """The forms that its items have."""
        return [Form.text]

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        at_least(self, "bytes", 1)


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """The beginnings of the held-out documents."""
    documents = cut_to_budget(read_documents(material.heldout)[: cfg.items], cfg.bytes)
    items = [Item(id=d.id, choices=(d.text,), domain=d.domain) for d in documents if d.text]
    return [Asked(name, Form.text, items, cfg.metric)]
