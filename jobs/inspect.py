"""Stage inspect: the data ledger, and documents and histograms for people, of one or more data steps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhpc.config import Footprint, Phase, Stage, at_least
from llmhpc.errors import ConfigError
from llmhpc.files import read_json, write_json
from llmhpc.task import Task

if TYPE_CHECKING:
    from llmhpc.inspection.piles import Piece

TOKENIZER = "tokenizer"
PROCESS_GB = 0.5  # of resources.mem_gb, what Python and its packages take


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """How much is shown. ``needs`` has a name of your own for each step to look at.

    With ``needs.tokenizer`` tokens are counted by it, else they are estimated from bytes.
    """

    kind: str = "inspect"
    samples: int = 100  # documents of each rule that removed some, and of those that were kept
    top_domains: int = 100  # listed for each step, by tokens that were kept
    samples_per_domain: int = 10
    sample_characters: int = 2000  # of each document, at most
    bytes_per_token: float = 4.0  # UTF-8 bytes, where nothing counts: of English about

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name in ("samples", "top_domains", "samples_per_domain"):
            at_least(self, name, 0)
        at_least(self, "sample_characters", 1)
        if self.bytes_per_token <= 0:
            raise ConfigError(f"bytes_per_token={self.bytes_per_token}: above 0")
        if self.resources.mem_gb < 2 * PROCESS_GB:
            raise ConfigError(
                f"resources.mem_gb={self.resources.mem_gb}: {2 * PROCESS_GB:g} or more"
            )

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError if there is no step to look at."""
        if not set(played_by) - {TOKENIZER}:
            raise ConfigError("needs: a name and a stage for each step, as in needs.filter=filter")

    def phases(self) -> list[Phase]:
        """Ranks add up and one task makes the ledger; then ranks pick documents and one task joins them."""
        return [Phase("measure", self.ranks), Phase("total", 1), Phase("pick", self.ranks), Phase("join", 1)]  # fmt: skip

    def will_write(self, input_bytes: int) -> Footprint:
        """A line for each domain and rule, and the samples of each rank until they are joined."""
        samples = self.samples * 10 + self.top_domains * self.samples_per_domain
        sampled = samples * self.sample_characters * self.ranks
        return Footprint(input_bytes // 50 + sampled, 4 * self.ranks + 5)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write ledger.parquet, ledger.json, histograms.json, samples.parquet and domains.parquet."""
    steps = {name: step for name, step in inputs.items() if name != TOKENIZER}
    phases = {"measure": _measure, "total": _total, "pick": _pick, "join": _join}
    return phases[task.phase](cfg, steps, inputs.get(TOKENIZER), out, task)


def _measure(cfg: Config, steps: dict[str, Path], tokenizer: Path | None, out: Path, task: Task) -> dict[str, Any]:  # fmt: skip
    from llmhpc.inspection.histograms import Histograms
    from llmhpc.inspection.ledger import Sums
    from llmhpc.inspection.piles import pieces

    tokens_of, histograms = _counter(cfg, tokenizer), Histograms()
    sums = Sums(out / "work" / "sums", task.rank)
    for piece in pieces(steps, task):
        tokens = tokens_of(piece)
        sums.add(piece, tokens)
        histograms.add(piece, tokens if tokenizer else None)
    sums.close()
    write_json(out / "work" / "histograms" / f"{task.rank:05d}.json", histograms.record())
    return {}


def _counter(cfg: Config, tokenizer: Path | None) -> "Callable[[Piece], int]":
    """Tokens of a piece, with the end of the document; a page has none.

    Of parts estimated: by the text that was taken out if it was kept, else as without a tokenizer from bytes.
    """
    from llmhpc.tokens.encode import open_encoder

    encoder = open_encoder(tokenizer, "auto") if tokenizer else None

    def count(piece: "Piece") -> int:
        if piece.text is None or not piece.size:
            return 0
        if encoder is None or not piece.text:
            return round(piece.size / cfg.bytes_per_token)
        tokens = len(encoder.encode([piece.text])[0])
        return (
            tokens if piece.whole else round((tokens - 1) * piece.size / len(piece.text.encode()))
        )

    return count


def _total(cfg: Config, steps: dict[str, Path], tokenizer: Path | None, out: Path, task: Task) -> dict[str, Any]:  # fmt: skip
    from llmhpc.inspection.histograms import Histograms
    from llmhpc.inspection.ledger import Ledger

    work, histograms = task.home / "work", Histograms()
    for rank in range(cfg.ranks):
        histograms.merge(read_json(work / "histograms" / f"{rank:05d}.json"))
    write_json(out / "histograms.json", histograms.record())
    ledger = Ledger(
        work / "sums", out, steps, exact=tokenizer is not None,
        memory_gb=cfg.resources.mem_gb - PROCESS_GB, scratch=out / "work",
    )  # fmt: skip
    top = ledger.top(cfg.top_domains)
    record = {
        "totals": ledger.totals(),
        "top": ledger.of_domains(top),
        "most_removed": ledger.most_removed(),
    }
    write_json(out / "ledger.json", record)
    write_json(out / "work" / "top.json", top)
    return {"lines": sum(row["domains"] for row in record["totals"])}


def _samples(cfg: Config, task: Task) -> Any:
    from llmhpc.inspection.samples import Limits, Samples

    limits = Limits(cfg.samples, cfg.samples_per_domain, cfg.sample_characters)
    return Samples(read_json(task.home / "work" / "top.json"), limits)


def _pick(cfg: Config, steps: dict[str, Path], tokenizer: Path | None, out: Path, task: Task) -> dict[str, Any]:  # fmt: skip
    from llmhpc.inspection.piles import pieces

    samples = _samples(cfg, task)
    for piece in pieces(steps, task):
        samples.add(piece)
    samples.write(out / "work" / "samples" / f"{task.rank:05d}.jsonl.zst")
    return {}


def _join(cfg: Config, steps: dict[str, Path], tokenizer: Path | None, out: Path, task: Task) -> dict[str, Any]:  # fmt: skip
    samples = _samples(cfg, task)
    for rank in range(cfg.ranks):
        samples.merge(task.home / "work" / "samples" / f"{rank:05d}.jsonl.zst")
    return {"samples": samples.save(out)}
