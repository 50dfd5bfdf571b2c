"""Batches of several sets of tokens, whose shares may change in the course of training."""

from llmhpc.errors import ArtifactError
from llmhpc.tokens.reader import TokenFiles
from llmhpc.tokens.shards import hash64
from llmhpc.train.data import ONLY, Batches, Source
from llmhpc.train.settings import Schedule
from llmhpc.train.shares import Shares


class Mixture(Batches):
    """Each source is read without replacement and has its own epochs; a sequence is of one source.

    Raises ArtifactError if a source does not fill one sequence, or was tokenized in another way than the first.
    """

    def __init__(self, tokens: dict[str, TokenFiles], schedule: Schedule, seed: int) -> None:
        sources = {
            name: Source(files, schedule, hash64(name, f"source {seed}".encode()))
            for name, files in tokens.items()
        }
        first, *others = sorted(tokens)
        for name in (first, *others):
            _check(name, first, tokens, schedule, sources[name].count)
        self._take(schedule, sources, tokens[first].eos_id)
        self.shares = Shares(schedule, seed)

    def _of(self, first: int, stop: int) -> list[tuple[str, int]]:
        """For the sequences ``first`` to ``stop`` the source of each, and how many it gave before."""
        return self.shares.of(first, stop)

    def before(self, number: int) -> dict[str, int]:
        """How many of the sequences before ``number`` each source gives."""
        return self.shares.before(number)

    def sources_of(self, step: int, *, dp_rank: int, dp: int, micro_batch: int) -> list[list[str]]:
        """The source of each sequence of ``micro_batches``, micro-batch by micro-batch."""
        first = self.first(step)
        names = [name for name, _ in self._of(first, first + self.schedule.batch(step))]
        share = self._share(len(names), dp_rank, dp, micro_batch)
        return [[names[place] for place in part] for part in share]

    def epochs(self, steps: int) -> dict[str, float]:
        """How often ``steps`` steps go through each source."""
        drawn = self.drawn_by(steps)
        return {name: round(drawn[name] / one.count, 4) for name, one in self.sources.items()}


def _check(
    name: str, first: str, tokens: dict[str, TokenFiles], schedule: Schedule, count: int
) -> None:
    if not count:
        raise ArtifactError(
            f"needs.{name}: {tokens[name].tokens} training tokens are no sequence of "
            f"{schedule.sequence_length} (schedule.sequence_length)"
        )
    for key in ("vocab_size", "eos_id"):
        here, there = getattr(tokens[name], key), getattr(tokens[first], key)
        if here != there:
            raise ArtifactError(f"needs.{name}: {key} {here}, needs.{first} has {there}")


def open_batches(tokens: dict[str, TokenFiles], schedule: Schedule, seed: int) -> Batches:
    """The batches of a training's sets of tokens, by role: a mixture where the schedule has phases."""
    if schedule.phases:
        return Mixture(tokens, schedule, seed)
    return Batches(tokens[ONLY], schedule, seed)
