"""Drop documents by rules, in the order the config lists them; of HTML pages the main text is taken out first."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Stage
from llmhpc.errors import ConfigError
from llmhpc.filters import EXTRACT, Extraction, Rule, Splitter
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """An extraction, for pages, and named rules; a rule's name is its folder in removed/."""

    roles: ClassVar[dict[str, str]] = {"pages": "a step that writes warc/ or documents/"}

    kind: str = "filter"
    extract: Extraction = field(default_factory=Extraction)
    rules: dict[str, Rule] = field(default_factory=dict)
    words: Splitter = Splitter.remembered

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name, rule in self.rules.items():
            if name in (EXTRACT, *self.roles) or not name.isidentifier():
                taken = " or ".join(map(repr, (EXTRACT, *self.roles)))
                raise ConfigError(f"rules.{name}: a name of letters, digits and _, not {taken}")
            try:
                rule.check_common()
            except ConfigError as error:
                raise ConfigError(f"rules.{name}.{error}") from None

    def optional_roles(self) -> dict[str, str]:
        """A step for the model of each rule that has one: the role is the rule's name."""
        return {
            name: f"a step that writes {rule.from_step}"
            for name, rule in self.rules.items()
            if rule.from_step
        }

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError for a rule that has no model, or two."""
        for name, rule in self.rules.items():
            try:
                rule.check_model(name, name in played_by)
            except ConfigError as error:
                raise ConfigError(f"rules.{name}.{error}") from None

    def before_launch(self) -> None:
        """Raise ConfigError if a file that a rule needs is not there."""
        for name, rule in self.rules.items():
            for place, variant in {"": rule, **rule.variants()}.items():
                try:
                    variant.before_launch()
                except ConfigError as error:
                    where = f"where[{place}]." if place else ""
                    raise ConfigError(f"rules.{name}.{where}{error}") from None


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/<rank>.jsonl.zst and removed/<rule>/<rank>.jsonl.zst."""
    from llmhpc.filters.blocks.chain import filter_documents
    from llmhpc.filters.blocks.words import splitting

    rules = {name: rule.of_step(inputs.get(name)) for name, rule in cfg.rules.items()}
    with splitting(cfg.words):
        return filter_documents(inputs["pages"], cfg.extract, rules, out, task)
