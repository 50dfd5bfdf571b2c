"""Keep documents that a fastText classifier takes for good ones: of a classifier step, or any file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmhpc.config import fraction
from llmhpc.errors import ConfigError
from llmhpc.filters import Rule, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

CURVE = "curve.json"  # beside the model of a classifier step


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """DCLM's model-based filter (Li et al., arXiv 2406.11794, section 4.4).

    Without ``threshold`` it is the one that the classifier step chose for its keep_rate.
    """

    from_step: ClassVar[str] = "classifier/model.bin"

    kind: str = "quality"
    model: str | None = None  # default: of the step that plays this rule's name in needs
    label: str = "good"  # without __label__
    threshold: float | None = None  # a document needs a probability above this

    def __post_init__(self) -> None:
        if self.threshold is not None:
            fraction(self, "threshold")

    def before_launch(self) -> None:
        """Raise ConfigError if the given model is not there, or has no threshold."""
        if self.model is not None:
            if not Path(self.model).is_file():
                raise ConfigError(f"model={self.model}: is not there; a fastText classifier")
            chosen_threshold(self)


def chosen_threshold(cfg: Config) -> float:
    """The threshold, given or found beside the model. Raises ConfigError."""
    if cfg.threshold is not None:
        return cfg.threshold
    path = Path(cfg.model or "").with_name(CURVE)
    if not path.is_file():
        raise ConfigError(f"threshold is not set: a fraction, or a model with {CURVE} beside it")
    return json.loads(path.read_text())["threshold"]


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """A filter that also writes the score to the metadata of what it keeps."""
    from datatrove.pipeline.filters.base_filter import BaseFilter

    from llmhpc.filters.blocks.explained import Explained
    from llmhpc.filters.models import supervised

    model = supervised.load(Path(cfg.model or ""))
    if cfg.label not in (known := supervised.labels_of(model)):
        raise ConfigError(f"label={cfg.label}: the model has {', '.join(known)}")
    score, threshold = supervised.scorer(model, cfg.label), chosen_threshold(cfg)

    class Quality(BaseFilter):
        """Keeps what scores above the threshold."""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            doc.metadata["quality_score"] = score(doc.text)
            return doc.metadata["quality_score"] > threshold or (False, f"not_{cfg.label}")

    def explain(doc: "Document", reason: str) -> str:
        return below(f"probability of {cfg.label}", doc.metadata["quality_score"], threshold)

    return Explained(Quality(), explain, removed)
