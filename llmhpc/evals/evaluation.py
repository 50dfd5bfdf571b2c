"""Every checkpoint against every task: units of work that can be shared out, and what they add up to."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.evals import answering, exports, items, letters
from llmhpc.evals import tasks as tasks_of
from llmhpc.evals.items import Asked
from llmhpc.evals.tasks import EvalTask, Material

SCORES, DOMAINS = "scores.jsonl", "domains.jsonl"


class Unit(NamedTuple):
    """What is scored in one piece: all items of one task in one form, by one checkpoint."""

    export: exports.Export
    asked: Asked

    @property
    def size(self) -> int:
        """Items."""
        return len(self.asked.items)


def ask(tasks: Mapping[str, EvalTask], material: Material, folder: Path) -> None:
    """Write everything that is asked below ``folder``."""
    for name, task in tasks.items():
        for asked in tasks_of.ask(task, name, material):
            if not asked.items:
                raise ArtifactError(f"tasks.{name}: no item")
            _check(asked, name)
            items.write(folder, asked)


def _check(asked: Asked, name: str) -> None:
    from llmhpc.evals import engine

    engine.prepare()
    from llmhpc.evals import metrics

    if asked.metric and asked.metric not in metrics.names(asked.form):
        valid = ", ".join(metrics.names(asked.form))
        raise ConfigError(f"tasks.{name}.metric={asked.metric}: {valid}")
    if len({item.id for item in asked.items}) < len(asked.items):
        raise ArtifactError(f"tasks.{name}: items with the same id")


def units(found: list[exports.Export], asked: list[Asked]) -> list[Unit]:
    """In the order of the checkpoints, so that neighbours need the same weights."""
    return [Unit(export, every) for export in found for every in asked]


def share(every: list[Unit], rank: int, ranks: int) -> list[Unit]:
    """A stretch of the units for each rank."""
    return every[len(every) * rank // ranks : len(every) * (rank + 1) // ranks]


def score(
    mine: list[Unit],
    kept: Path,
    batch_tokens: int,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> None:
    """Have the units answered that are not in ``kept``; a checkpoint is loaded only if one of its is not.

    Args:
        mine: by rising step.
        kept: folder of the answers.
        batch_tokens: positions of one batch.
        progress: called with the items done, all items, and a note.
    """
    total, done = sum(unit.size for unit in mine), 0
    model = None
    for unit in mine:
        path = answering.path_of(kept, unit.export, unit.asked)
        note = f"step {unit.export.step}, {unit.asked.task}"
        if not path.exists():
            if model is None or model[0] != unit.export:
                progress(done, total, f"step {unit.export.step}, loading")
                model = unit.export, _open(unit.export, batch_tokens)

            def tell(items: int, before: int = done, note: str = note) -> None:
                progress(before + items, total, note)

            responses = answering.respond(model[1], unit.asked, tell)
            answering.write(path, unit.asked.items, responses)
        done += unit.size
        progress(done, total, note)


def _open(export: exports.Export, batch_tokens: int) -> Any:
    from llmhpc.evals import engine

    engine.prepare()
    from llmhpc.evals.model import ScoringModel
    from llmhpc.evals.scoring import Scorer
    from llmhpc.evals.writing import Writer

    checkpoint = exports.load(export)
    scorer = Scorer(checkpoint.model, checkpoint.max_length, batch_tokens)
    return ScoringModel(checkpoint, scorer, Writer(checkpoint, batch_tokens))


def gather(
    found: list[exports.Export], asked: list[Asked], kept: Path, out: Path
) -> list[dict[str, Any]]:
    """Write scores.jsonl, domains.jsonl, scores/, items/ and what the letters show; returns the last checkpoint's lines.

    Raises:
        ArtifactError: an answer is not there.
    """
    from llmhpc.evals import engine

    engine.prepare()
    from llmhpc.evals import scores

    lines: list[dict[str, Any]] = []
    domains: list[dict[str, Any]] = []
    mine: list[dict[str, Any]] = []
    for export in found:
        judged = list(_judged(export, asked, kept))
        mine = [line for each in judged for line in each.lines()]
        records = [record for each in judged for record in each.records()]
        lines += mine
        domains += [line for each in judged for line in each.by_domain()]
        scores.write_items(out / "items" / f"{export.step:06d}.parquet", records)
        scores.write_checkpoint(out / "scores" / f"{export.step:06d}.json", export, mine)
    scores.write_lines(out / SCORES, lines)
    if domains:
        scores.write_lines(out / DOMAINS, domains)
    letters.write(out)
    return mine


def _judged(export: exports.Export, asked: list[Asked], kept: Path) -> Iterator[Any]:
    from llmhpc.evals.scores import Judged

    for every in asked:
        path = answering.path_of(kept, export, every)
        answers = answering.read(path)
        if answers is None:
            raise ArtifactError(f"{path}: not there; a rank has not scored it")
        yield Judged(export, every, answers)
