"""Steps whose loss or gradient norm is not finite, or far above those before them: what is done, and the record of it.

bad_steps.json   one entry for each, in order: step, loss, grad_norm, why, and what was done (skip, or roll_back with
                 the step that training went back to and the sequences that are left out behind it)
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from llmhpc.config import at_least
from llmhpc.files import write_json

FILE = "bad_steps.json"


class BadStep(Enum):
    """What is done about a bad step. Its update is never made.

    skip: go on with the next step. roll_back: from the newest checkpoint before it, with the data behind the bad step
    (Chowdhery et al., arXiv:2204.02311, section 5.1); where there is no checkpoint yet, skip.
    """

    stop = "stop"
    skip = "skip"
    roll_back = "roll_back"


@dataclass(kw_only=True, slots=True)
class BadSteps:
    """Which steps are bad, and what is done about them."""

    action: BadStep = BadStep.stop
    limit: int = 10  # bad steps of the whole training; one more ends it
    spike_window: int = (
        0  # good steps that the next is held against; 0: only what is not finite is bad
    )
    spike_factor: float = 6.0  # standard deviations above the mean of these

    def __post_init__(self) -> None:
        at_least(self, "limit", 0)
        at_least(self, "spike_window", 0)
        at_least(self, "spike_factor", 1)


class Bounds(NamedTuple):
    """The largest loss and gradient norm of a good step."""

    loss: float = math.inf
    grad_norm: float = math.inf


NOTHING = Bounds(-math.inf, -math.inf)


class Watch:
    """What is known of good and bad steps; the same on every process.

    Args:
        records: the content of bad_steps.json.
        state: what ``state`` gave when the checkpoint was made that training goes on from; empty: at the beginning.
        step: of that checkpoint.
    """

    def __init__(
        self,
        settings: BadSteps,
        records: list[dict[str, Any]],
        state: dict[str, Any],
        step: int,
    ) -> None:
        self.settings, self.records = settings, list(records)
        self.go_to(state, step)

    def go_to(self, state: dict[str, Any], step: int) -> None:
        """Go on from a checkpoint; the records stay."""
        self.good: deque[list[float]] = deque(
            state.get("good", []), maxlen=self.settings.spike_window
        )
        # [step, sequences left out behind it]: what the checkpoint knows of, and what became known since
        self.left_out: list[list[int]] = list(state.get("left_out", []))
        for record in self.records:
            if record["action"] == BadStep.roll_back.name and record["to"] >= step:
                self.left_out.append([record["to"], record["sequences"]])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"good": list(self.good), "left_out": self.left_out}

    def bounds(self, step: int) -> Bounds:
        """Mean plus ``spike_factor`` standard deviations of the last good steps, once half a window of them is there.

        That of a step which was skipped before lets nothing pass.
        """
        if self.was_skipped(step):
            return NOTHING
        if len(self.good) < max(2, self.settings.spike_window / 2):
            return Bounds()
        factor = self.settings.spike_factor
        columns = zip(*self.good, strict=True)
        return Bounds(*(statistics.fmean(c) + factor * statistics.pstdev(c) for c in columns))

    def was_skipped(self, step: int) -> bool:
        """Whether the record says so."""
        return any(
            record["step"] == step and record["action"] == BadStep.skip.name
            for record in self.records
        )

    def passed(self, loss: float, grad_norm: float) -> None:
        """Note a good step."""
        self.good.append([loss, grad_norm])

    def is_over(self) -> bool:
        """True if one more bad step ends the training."""
        stops = self.settings.action is BadStep.stop
        return stops or len(self.records) >= self.settings.limit

    def skipped(self, step: int, loss: float, grad_norm: float, why: str) -> None:
        """Note that a step is left as it is."""
        self.records.append(_record(step, loss, grad_norm, why) | {"action": BadStep.skip.name})

    def rolled_back(
        self, step: int, loss: float, grad_norm: float, why: str, *, to: int, sequences: int
    ) -> None:
        """Note that training goes on from the checkpoint of ``to``, without the sequences read since."""
        record = _record(step, loss, grad_norm, why)
        record |= {"action": BadStep.roll_back.name, "to": to, "sequences": sequences}
        self.records.append(record)

    def write(self, out: Path) -> None:
        """Make the records last."""
        write_json(out / FILE, self.records)


def _record(step: int, loss: float, grad_norm: float, why: str) -> dict[str, Any]:
    return {"step": step, "loss": finite(loss), "grad_norm": finite(grad_norm), "why": why}


def finite(value: float) -> float | None:
    """The value, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def reason(loss: float, grad_norm: float, bounds: Bounds) -> str:
    """Why a step is bad."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        return "not finite"
    if loss > bounds.loss:
        return f"loss above {bounds.loss:.4g}"
    return f"gradient norm above {bounds.grad_norm:.4g}"
