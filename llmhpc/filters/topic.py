"""Keep or drop documents by their topic: labels of a fastText classifier, or clusters of a topics step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmhpc.config import fraction
from llmhpc.errors import ConfigError
from llmhpc.filters import Rule, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

CLUSTERS = "clusters.bin"


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """The document's topic is the label with the highest probability, or the cluster with the nearest centre.

    Clusters have the numbers that topics.json of the step lists with their words. WebOrganizer (Wettig et
    al., arXiv 2502.10341) shows what such a choice of topics is worth.
    """

    from_step: ClassVar[str] = f"topics/{CLUSTERS}"

    kind: str = "topic"
    model: str | None = (
        None  # a fastText file or a clusters.bin; default: of the step with this name
    )
    keep: list[str] = field(default_factory=list)  # only these; none: all but those in drop
    drop: list[str] = field(default_factory=list)
    threshold: float = 0.0  # of probability or cosine; under it a document has the topic "unsure"

    def __post_init__(self) -> None:
        fraction(self, "threshold")
        if both := sorted(set(self.keep) & set(self.drop)):
            raise ConfigError(f"keep={both[0]}: it is in drop, too; one of them")

    def before_launch(self) -> None:
        """Raise ConfigError if the given model is not there."""
        if self.model is not None and not Path(self.model).is_file():
            raise ConfigError(f"model={self.model}: is not there; a fastText file or {CLUSTERS}")


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """A filter that writes topic and score to the metadata."""
    from datatrove.pipeline.filters.base_filter import BaseFilter

    from llmhpc.filters.blocks.explained import Explained

    find, known = finder(Path(cfg.model or ""))
    for name in (*cfg.keep, *cfg.drop):
        if name not in (*known, "unsure"):
            raise ConfigError(f"keep or drop={name}: the model has {', '.join(known)} and unsure")
    keep, drop = set(cfg.keep), set(cfg.drop)

    class Topic(BaseFilter):
        """Keeps by the name of the topic."""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            found, score = find(doc.text)
            topic = found if score >= cfg.threshold else "unsure"
            doc.metadata |= {"topic": topic, "topic_score": score}
            kept = topic in keep if keep else topic not in drop
            return kept or (False, topic)

    def explain(doc: "Document", reason: str) -> str:
        score = doc.metadata["topic_score"]
        if reason == "unsure":
            return below("score of the topic", score, cfg.threshold)
        return f"topic {reason} ({score:g}), {'not in keep' if keep else 'in drop'}"

    return Explained(Topic(), explain, removed)


def finder(path: Path) -> tuple[Callable[[str], tuple[str, float]], list[str]]:
    """(the function that gives a text's topic and its score, all topics of the model)."""
    if path.name == CLUSTERS:
        from llmhpc.filters.models import clusters

        found = clusters.load(path)

        def nearest(text: str) -> tuple[str, float]:
            number, likeness = clusters.nearest(found, text)
            return str(number), likeness

        return nearest, [str(n) for n in range(len(found.terms))]
    from llmhpc.filters.models import supervised

    model = supervised.load(path)
    return supervised.labeller(model), supervised.labels_of(model)
