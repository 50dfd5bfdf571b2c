"""Where numbers are drawn while training goes on: TensorBoard, and Weights & Biases when asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from llmhpc.errors import ConfigError
from llmhpc.train.outlook import NO_WANDB

TENSORBOARD = "tensorboard"
PROJECT = "llmhpc"


class Boards:
    """Scalars by step, those behind ``resumed_step`` anew. ``wandb``: also to the project llmhpc of Weights & Biases.

    A training is one run there, under the name of its directory, however often it was started; on nodes without a
    network WANDB_MODE=offline leaves what ``wandb sync`` sends in ``out``/wandb. Raises ConfigError if the package is
    not installed.
    """

    def __init__(self, out: Path, resumed_step: int, *, wandb: bool) -> None:
        self.board = SummaryWriter(str(out / TENSORBOARD), purge_step=resumed_step + 1)
        self.run: Any = None
        if wandb:
            try:
                import wandb as service
            except ImportError:
                raise ConfigError(NO_WANDB) from None
            self.run = service.init(
                project=PROJECT, id=out.name, name=out.name, dir=str(out), resume="allow"
            )
            # its own count of steps cannot go back
            self.run.define_metric("*", step_metric="step")

    def draw(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each line."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if self.run is not None:
            self.run.log({"step": step, **values})

    def flush(self) -> None:
        """To disk."""
        self.board.flush()

    def close(self) -> None:
        """Nothing more is drawn."""
        self.board.close()
        if self.run is not None:
            self.run.finish()
