"""Which source each sequence of a mixture is from: a function of its number and the seed, in exact shares.

Sequences are numbered from 0 over the whole training. Of the first n of a phase, the heaviest source gets
floor((n p + c) / q) for a weight p / q and a drawn c below q (a Beatty sequence); of the others the next heaviest gets
its part of what is left in the same way, and so on. Counts are therefore known without counting, and in any stretch
of a phase a source is less than one sequence off its share where there are two, and less than their number where
there are more.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from llmhpc.train.settings import MixturePhase, Schedule

PARTS = 10**6  # weights are taken as so many parts; n x PARTS is below 2^63 for 9e12 sequences


@dataclass(frozen=True)
class _Split:
    """One source's part of what the heavier ones leave."""

    name: str
    part: int
    of: int
    shift: int


class Shares:
    """The sources of the sequences of a training; there is a phase. One ends with the last sequence of its last step,
    if none is left out before."""

    def __init__(self, schedule: Schedule, seed: int) -> None:
        phases = schedule.phases
        self.names = sorted({name for phase in phases for name in phase.weights})
        self._splits = [_splits(phase, [seed, place]) for place, phase in enumerate(phases)]
        self._starts = [
            0,
            *(schedule.sequences_before(phase.until_step + 1) for phase in phases[:-1]),
        ]
        # at the start of each phase, (sources, 1)
        self._before = [np.zeros((len(self.names), 1), dtype=np.int64)]
        for place, (start, stop) in enumerate(pairwise(self._starts)):
            of_phase = self._within(place, np.array([stop - start]))
            self._before.append(self._before[-1] + of_phase)

    def before(self, number: int) -> dict[str, int]:
        """How many of the sequences before ``number`` each source gives."""
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        counts = self._before[place] + self._within(place, np.array([number - self._starts[place]]))
        return dict(zip(self.names, counts[:, 0].tolist(), strict=True))

    def of(self, first: int, stop: int) -> list[tuple[str, int]]:
        """For the sequences ``first`` to ``stop`` the source of each, and how many it gave before."""
        found: list[tuple[str, int]] = []
        for place, start in enumerate(self._starts):
            end = min([stop, *self._starts[place + 1 : place + 2]])
            if (begin := max(first, start)) >= end:
                continue
            counts = self._before[place] + self._within(place, np.arange(begin, end + 1) - start)
            chosen = np.diff(counts, axis=1).argmax(axis=0)
            given = counts[chosen, np.arange(end - begin)]
            found += [
                (self.names[i], n) for i, n in zip(chosen.tolist(), given.tolist(), strict=True)
            ]
        return found

    def _within(self, place: int, numbers: np.ndarray) -> np.ndarray:
        """int64 (sources, numbers): how many of the first so many sequences of a phase each source gives."""
        counts = np.zeros((len(self.names), len(numbers)), dtype=np.int64)
        left = numbers.astype(np.int64)
        for split in self._splits[place]:
            got = (left * split.part + split.shift) // split.of
            counts[self.names.index(split.name)] = got
            left = left - got
        return counts


def _splits(phase: MixturePhase, key: list[int]) -> list[_Split]:
    """The heaviest first; the last one takes what is left."""
    parts = {name: round(weight * PARTS) for name, weight in phase.weights.items()}
    shifts, left, made = np.random.default_rng(key), sum(parts.values()), []
    for name in sorted(parts, key=lambda name: (-parts[name], name)):
        shift = int(shifts.integers(left)) if parts[name] < left else 0
        made.append(_Split(name, parts[name], max(1, left), shift))
        left -= parts[name]
    return made
