"""Take the main text out of HTML pages and drop documents by rules, in the order the config lists them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Stage
from llmhpc.errors import ConfigError
from llmhpc.filters import EXTRACT, Extraction, Rule, Splitter
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """An extraction and named rules; a rule's name is its folder in removed/."""

    roles: ClassVar[dict[str, str]] = {"pages": "a step that writes warc/"}

    kind: str = "filter"
    extract: Extraction = field(default_factory=Extraction)
    rules: dict[str, Rule] = field(default_factory=dict)
    words: Splitter = Splitter.spacy

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name in self.rules:
            if name == EXTRACT or not name.isidentifier():
                raise ConfigError(f"rules.{name}: a name of letters, digits and _, not {EXTRACT!r}")

    def before_launch(self) -> None:
        """Raise ConfigError if a file that a rule needs is not there."""
        for rule in self.rules.values():
            rule.before_launch()


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/<rank>.jsonl.zst and removed/<rule>/<rank>.jsonl.zst."""
    from llmhpc.filters.blocks.chain import filter_pages
    from llmhpc.filters.blocks.words import splitting

    with splitting(cfg.words):
        return filter_pages(inputs["pages"] / "warc", cfg.extract, cfg.rules, out, task)
