"""Which checkpoints are made, and which of these stay."""

from typing import NamedTuple


class Keeping(NamedTuple):
    """Every ``made_every`` steps a checkpoint, and one of the last of ``steps``; that one always stays."""

    made_every: int
    steps: int
    last: int = 0  # so many of the newest stay; 0: all
    every: int = 0  # those of every so many steps stay beside them; 0: none

    def is_made(self, step: int) -> bool:
        """True for a checkpoint that does not depend on when training was cut; it is exported."""
        return step == self.steps or (step > 0 and step % self.made_every == 0)

    def stays(self, step: int, newest: int) -> bool:
        """Whether the checkpoint of ``step`` is there when training has come to ``newest``."""
        if not self.is_made(step):
            return False
        asked_for = step == self.steps or (self.every > 0 and step % self.every == 0)
        return asked_for or not self.last or step in self._newest_made(newest)

    def left(self) -> list[int]:
        """The steps whose checkpoints are there at the end."""
        made = {*range(self.made_every, self.steps, self.made_every), self.steps}
        return sorted(step for step in made if self.stays(step, self.steps))

    def made(self, begun: int) -> int:
        """How many a training makes that goes on from step ``begun``."""
        first = begun - begun % self.made_every + self.made_every
        return len(range(first, self.steps, self.made_every)) + 1

    def most(self, begun: int) -> int:
        """How many of these there are at once, at most."""
        if not self.last:
            return self.made(begun)
        beside = self.steps // self.every if self.every else 0
        return min(self.made(begun), self.last + 1 + beside)

    def _newest_made(self, newest: int) -> list[int]:
        end = [self.steps] if newest >= self.steps else []
        before = min(newest, self.steps - 1)
        return [*end, *range(before - before % self.made_every, 0, -self.made_every)][: self.last]
