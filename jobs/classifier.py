"""Stage classifier: a fastText model that tells good documents from ordinary ones, for the rule quality."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Stage, at_least, fraction
from llmhpc.errors import ConfigError, StageError
from llmhpc.task import Task

FLOAT_BYTES = 4


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Good against ordinary documents, the same number of each at most, as in DCLM (Li et al., arXiv 2406.11794).

    DCLM took 200,000 of each and kept the tenth of the web that scored highest; dimensions, epochs and
    bigrams are those of Joulin et al., arXiv 1607.01759, section 3.1. ``ranks`` has no use: one thread,
    so that the same documents give the same model.
    """

    roles: ClassVar[dict[str, str]] = {
        "good": "a step that writes documents/, of the kind to keep",
        "bad": "a step that writes documents/, ordinary ones",
    }

    kind: str = "classifier"
    documents: int = 200_000  # of each side at most, picked by a hash of their ids; held in memory
    heldout_fraction: float = 0.1  # of these, not trained on: the curve is measured with them
    keep_rate: float = 0.1  # of ordinary documents; sets the threshold that is written
    dimensions: int = 10
    epochs: int = 5
    learning_rate: float = 0.1  # fastText's default
    ngram_words: int = 2
    buckets: int = 1_000_000  # that n-grams of words are hashed to
    quantize: bool = False  # a smaller file (Joulin et al., arXiv 1612.03651)
    model_seed: int = 0  # not the run's: data does not change with the seed of training

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name in ("documents", "dimensions", "epochs", "ngram_words", "buckets"):
            at_least(self, name, 1)
        fraction(self, "heldout_fraction", "keep_rate")
        at_least(self, "learning_rate", 0)
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, a classifier is trained in one task")

    def will_write(self, input_bytes: int) -> Footprint:
        """The vectors of the buckets; those of words are few beside them."""
        return Footprint(FLOAT_BYTES * self.dimensions * self.buckets, 2)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write classifier/model.bin and classifier/curve.json."""
    import heapq

    from llmhpc.files import write_json
    from llmhpc.filters.models import supervised
    from llmhpc.tokens.shards import HASH_BITS, hash64, parse, read_lines, shard_paths

    train: list[tuple[int, str, str]] = []
    heldout: dict[str, list[str]] = {}
    for side in ("good", "bad"):
        lines = read_lines(shard_paths(inputs[side]), task.progress)
        documents = (parse(line) for line in lines)
        places = (
            (hash64(d["id"], b"sample"), hash64(d["id"], b"heldout") / (1 << HASH_BITS), d["text"])
            for d in documents
        )
        picked = heapq.nsmallest(cfg.documents, places)
        heldout[side] = [text for _, place, text in picked if place < cfg.heldout_fraction]
        train += [
            (order, side, text) for order, place, text in picked if place >= cfg.heldout_fraction
        ]
        if not heldout[side] or len(heldout[side]) == len(picked):
            raise StageError(
                f"heldout_fraction={cfg.heldout_fraction}: holds out {len(heldout[side])} of "
                f"{len(picked)} {side} documents; some and not all are needed"
            )
    task.progress(0, 1, "models", f"training on {len(train)} documents")
    folder = out / "classifier"
    folder.mkdir()
    supervised.train(
        ((side, text) for _, side, text in sorted(train)),
        folder / "model.bin",
        quantize=cfg.quantize,
        dim=cfg.dimensions,
        epoch=cfg.epochs,
        lr=cfg.learning_rate,
        wordNgrams=cfg.ngram_words,
        bucket=cfg.buckets,
        seed=cfg.model_seed,
    )
    score = supervised.scorer(supervised.load(folder / "model.bin"), "good")
    scores = {side: [score(text) for text in texts] for side, texts in heldout.items()}
    curve = supervised.curve(scores["good"], scores["bad"], cfg.keep_rate)
    write_json(folder / "curve.json", curve)
    return {
        "trained_on": len(train),
        "heldout_documents": sum(map(len, heldout.values())),
        "threshold": curve["threshold"],
        "precision": curve["at_threshold"]["precision"],
        "recall": curve["at_threshold"]["recall"],
    }
