"""Every checkpoint against every task: units of work that can be shared out, and what they add up to."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.evals import answering, files, items
from llmhpc.evals import tasks as tasks_of
from llmhpc.evals.earlier import Earlier
from llmhpc.evals.items import Asked
from llmhpc.evals.judging import letters
from llmhpc.evals.models import exports
from llmhpc.evals.tasks import EvalTask, Material, NothingToAsk

if TYPE_CHECKING:
    from llmhpc.evals.models.model import ScoringModel
    from llmhpc.evals.models.places import Place

BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}


class Unit(NamedTuple):
    """What is scored in one piece: all items of one task in one form, by one checkpoint."""

    export: exports.Export
    asked: Asked

    @property
    def size(self) -> int:
        """Items."""
        return len(self.asked.items)


def ask(tasks: Mapping[str, EvalTask], material: Material, folder: Path) -> dict[str, str]:
    """Write everything that is asked below ``folder``; returns the tasks that are left out, and why.

    Raises:
        ArtifactError: a task has no item, or two with the same id.
        NothingToAsk: no task has any.
    """
    left_out = {}
    for name, task in tasks.items():
        try:
            found = tasks_of.ask(task, name, material)
        except NothingToAsk as error:
            left_out[name] = str(error)
            if len(left_out) == len(tasks):
                raise
            continue
        for asked in found:
            _check(asked, name)
            items.write(folder, asked)
    return left_out


def _check(asked: Asked, name: str) -> None:
    if asked.metric in items.NEED_ALONE and any(item.alone is None for item in asked.items):
        raise ConfigError(
            f"tasks.{name}.metric={asked.metric}: another one, its items cannot be asked without a question"
        )
    if not asked.items:
        raise ArtifactError(f"tasks.{name}: no item")
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
    root: Path,
    batch_tokens: int,
    place: "Place",
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> None:
    """Have the units answered that are not in ``kept``; a checkpoint is loaded only if one of its is not.

    What a sealed step beside this one has answered is taken from there.

    Args:
        mine: by rising step.
        kept: folder of the answers.
        root: folder of the steps.
        batch_tokens: positions of one batch; 0: as is best for the device.
        place: of this process; all processes of the step call this with the same units.
        progress: called with the items done, all items, and a note.
    """
    total = sum(unit.size for unit in mine)
    todo = place.told("units", lambda: _not_answered(mine, kept, root))
    done = total - sum(mine[number].size for number in todo)
    for export, units_of in itertools.groupby(
        (mine[number] for number in todo), lambda u: u.export
    ):
        progress(done, total, f"step {export.step}, loading")
        with _opened(export, answering.folder_of(kept, export), batch_tokens, place) as model:
            for unit in units_of:
                note = f"step {export.step}, {unit.asked.task}"

                def tell(items: int, before: int = done, note: str = note) -> None:
                    progress(before + items, total, note)

                responses = answering.respond(model, unit.asked, tell)
                if place.first:
                    found = answering.answers_of(unit.asked.items, responses, model.device)
                    answering.write(answering.path_of(kept, export, unit.asked), found)
                done += unit.size
                progress(done, total, note)


def _not_answered(mine: list[Unit], kept: Path, root: Path) -> list[int]:
    """The places of the units that nobody has answered; what another step has comes to ``kept``."""
    earlier: Earlier | None = None
    todo = []
    for number, unit in enumerate(mine):
        path = answering.path_of(kept, unit.export, unit.asked)
        if path.exists():
            continue
        earlier = earlier or Earlier(root)
        if found := earlier.answers(unit.export, unit.asked):
            answering.write(path, found)
        else:
            todo.append(number)
    return todo


@contextmanager
def _opened(
    export: exports.Export, kept: Path, batch_tokens: int, place: "Place"
) -> "Iterator[ScoringModel]":
    from llmhpc.evals.models import engine

    engine.prepare()
    from llmhpc.evals.models.model import ScoringModel
    from llmhpc.evals.models.recorded import RecordedScorer, RecordedWriter, Records

    records = Records(kept / "batches", place)
    try:
        checkpoint = exports.load(export, place.tp)
        batch_tokens = batch_tokens or BATCH_TOKENS[checkpoint.model.device.type]
        scorer = RecordedScorer(records, checkpoint.model, checkpoint.max_length, batch_tokens)
        writer = RecordedWriter(records, checkpoint, batch_tokens)
        yield ScoringModel(checkpoint, scorer, writer)
    finally:
        records.close()


def gather(
    found: list[exports.Export], asked: list[Asked], kept: Path, out: Path
) -> list[dict[str, Any]]:
    """Write scores.jsonl, domains.jsonl, scores/, items/ and what the letters show; returns the last checkpoint's lines.

    Raises:
        ArtifactError: an answer is not there.
    """
    from llmhpc.evals.models import engine

    engine.prepare()
    from llmhpc.evals.judging import scores

    lines: list[dict[str, Any]] = []
    domains: list[dict[str, Any]] = []
    mine: list[dict[str, Any]] = []
    for export in found:
        judged = list(_judged(export, asked, kept))
        mine = [line for each in judged for line in each.lines]
        records = [record for each in judged for record in each.records()]
        lines += mine
        domains += [line for each in judged for line in each.by_domain()]
        scores.write_items(files.items_of(out, export.step), records)
        scores.write_checkpoint(files.scores_of(out, export.step), export, judged)
    scores.write_lines(out / files.SCORES, lines)
    if domains:
        scores.write_lines(out / files.DOMAINS, domains)
    letters.write(out)
    return mine


def _judged(export: exports.Export, asked: list[Asked], kept: Path) -> Iterator[Any]:
    from llmhpc.evals.judging.scores import Judged

    for every in asked:
        path = answering.path_of(kept, export, every)
        answers = answering.read(path)
        if answers is None:
            raise ArtifactError(f"{path}: not there; a rank has not scored it")
        yield Judged(export, every, answers)
