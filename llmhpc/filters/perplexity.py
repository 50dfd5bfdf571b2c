"""Drop documents that an n-gram model finds too surprising, or not surprising at all."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.filters import Rule, above, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

ARPA = ".arpa"
LIMITS = "perplexity.json"  # beside the model of an ngrams step


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """CCNet's filter (Wenzek et al., arXiv 1911.00359, section 3.2), on words, with a model of any n-grams.

    CCNet keeps the third of each language with the lowest perplexity as its head. Without
    ``max_perplexity`` it is the one that the ngrams step chose for its keep_rate. An ARPA file is read
    here, or by KenLM (``kenlm=true``; pip install "llmhpc[ngrams]"); other files by KenLM only. The choice
    is a setting since the last digits differ.
    """

    from_step: ClassVar[str] = "ngrams/model.arpa"

    kind: str = "perplexity"
    model: str | None = None  # default: of the step that plays this rule's name in needs
    kenlm: bool = False
    max_perplexity: float | None = None
    min_perplexity: float = 0.0  # under it is text that repeats itself

    def __post_init__(self) -> None:
        at_least(self, "min_perplexity", 0)
        if self.max_perplexity is not None:
            at_least(self, "max_perplexity", self.min_perplexity)

    def before_launch(self) -> None:
        """Raise ConfigError if the model, its limit or the package that reads it is not there."""
        if self.kenlm and importlib.util.find_spec("kenlm") is None:
            raise ConfigError('kenlm=true: the package is not there; pip install "llmhpc[ngrams]"')
        if self.model is not None:
            if not Path(self.model).is_file():
                raise ConfigError(f"model={self.model}: is not there; an ARPA or KenLM file")
            if not self.kenlm and not self.model.endswith(ARPA):
                raise ConfigError(
                    f"model={self.model}: without {ARPA} at its end it needs kenlm=true"
                )
            limit(self)


def limit(cfg: Config) -> float:
    """The largest perplexity, given or found beside the model. Raises ConfigError."""
    if cfg.max_perplexity is not None:
        return cfg.max_perplexity
    path = Path(cfg.model or "").with_name(LIMITS)
    if not path.is_file():
        raise ConfigError(
            f"max_perplexity is not set: a number, or a model with {LIMITS} beside it"
        )
    return json.loads(path.read_text())["max_perplexity"]


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """A filter that also writes the perplexity to the metadata of what it keeps."""
    from datatrove.pipeline.filters.base_filter import BaseFilter

    from llmhpc.filters.blocks.explained import Explained
    from llmhpc.filters.models import kneser_ney

    path, most = Path(cfg.model or ""), limit(cfg)
    score = kneser_ney.kenlm_scorer(path) if cfg.kenlm else kneser_ney.arpa_scorer(path)

    class Perplexity(BaseFilter):
        """Keeps what lies between the limits."""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            found = doc.metadata["perplexity"] = kneser_ney.perplexity(doc.text, score)
            if found > most:
                return False, "too_surprising"
            return found >= cfg.min_perplexity or (False, "too_predictable")

    def explain(doc: "Document", reason: str) -> str:
        found = doc.metadata["perplexity"]
        if reason == "too_surprising":
            return above("perplexity", found, most)
        return below("perplexity", found, cfg.min_perplexity)

    return Explained(Perplexity(), explain, removed)
