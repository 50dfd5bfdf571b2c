"""Stage ngrams: an n-gram model of reference documents (modified Kneser-Ney), for the rule perplexity."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import NOT_IDENTITY, Finding, Footprint, Resources, Stage, at_least, fraction
from llmhpc.errors import ConfigError, StageError
from llmhpc.task import Task

ARPA_BYTES_PER_BYTE = 13  # of text, for order 5
# 80 to 100 were measured, with 1 to 4 MB of documentation and order 5; the n-grams, then the file as it is read back
MEMORY_BYTES_PER_BYTE = 100
PROCESS_GB = 0.3  # and the held-out texts


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """CCNet's model of what good text is like (Wenzek et al., arXiv 1911.00359, section 3.2): order 5.

    CCNet learns from Wikipedia and splits words by SentencePiece; here words are words. ``ranks`` has no
    use. The model is written as ARPA, which KenLM's build_binary turns into a smaller and faster file.
    """

    roles: ClassVar[dict[str, str]] = {
        "documents": "a step that writes documents/, of the kind to keep"
    }

    kind: str = "ngrams"
    order: int = 5
    sample_mb: int = 64  # of text, picked by a hash of the ids
    heldout_fraction: float = 0.05  # of the documents, not learned from
    keep_rate: float = 0.9  # of held-out documents; sets the largest perplexity that is written
    resources: Resources = field(
        default_factory=lambda: Resources(mem_gb=7.0), metadata=NOT_IDENTITY
    )

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "order", 1)
        at_least(self, "sample_mb", 1)
        fraction(self, "heldout_fraction", "keep_rate")
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, a model is estimated in one task")

    def foresee(
        self, inputs: dict[str, Path], out: Path, *, machine_gb: float | None
    ) -> list[Finding]:
        """The memory of a full sample: an estimate."""
        most = MEMORY_BYTES_PER_BYTE * self.sample_mb / 1000 + PROCESS_GB
        if most <= self.resources.mem_gb:
            return []
        message = f"resources.mem_gb={self.resources.mem_gb:g}: sample_mb={self.sample_mb} takes about {most:g}"
        return [Finding(f"{message}; more of it, or a smaller sample", estimate=True)]

    def will_write(self, input_bytes: int) -> Footprint:
        """The n-grams of the sample."""
        return Footprint(self.sample_mb * 1_000_000 * ARPA_BYTES_PER_BYTE, 2)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write ngrams/model.arpa and ngrams/perplexity.json."""
    from llmhpc.files import write_json
    from llmhpc.filters.models import kneser_ney
    from llmhpc.tokens import sample
    from llmhpc.tokens.shards import shard_paths

    picked = sample.pick(
        shard_paths(inputs["documents"]),
        cfg.sample_mb * 1_000_000,
        cfg.heldout_fraction,
        progress=task.progress,
    )
    texts, unseen = (list(picked.samples[split].texts()) for split in sample.SPLITS)
    size = picked.samples["train"].size_bytes
    if not texts or not unseen:
        raise StageError(
            f"heldout_fraction={cfg.heldout_fraction}: holds out {len(unseen)} of {picked.documents} documents; "
            "some and not all are needed"
        )
    task.progress(0, 1, "models", f"counting n-grams of {size / 1e6:.0f} MB")
    lines = (line for text in texts for line in kneser_ney.sentences(text))
    model = kneser_ney.estimate(lines, cfg.order)
    folder = out / "ngrams"
    folder.mkdir()
    kneser_ney.write_arpa(model, folder / "model.arpa")
    score = kneser_ney.arpa_scorer(folder / "model.arpa")
    found = sorted(kneser_ney.perplexity(text, score) for text in unseen)
    limit = found[max(0, int(cfg.keep_rate * len(found)) - 1)]
    record = {
        "heldout": len(found),
        "keep_rate": cfg.keep_rate,
        "max_perplexity": limit,
        "percentiles": {str(p): found[min(len(found) * p // 100, len(found) - 1)] for p in range(0, 101, 5)},
        "discounts_estimated": model.estimated,  # by order; lmplz's fallback where they are not
    }  # fmt: skip
    write_json(folder / "perplexity.json", record)
    return {
        "documents_in": picked.documents,
        "documents": len(texts),
        "sample_bytes": size,
        "ngrams": sum(len(table.rows) for table in model.tables),
        "max_perplexity": limit,
    }
