"""Who answers: one module per backend, each with a ``Config`` and ``open_backend``.

A backend module holds

    class Config(Backend)                                            the settings
    def open_backend(cfg, sampling, folder, rank) -> Ask             what answers a group of (prompt, seed)

An ``Ask`` gives one answer for each prompt, in order. It raises UnansweredError for a group that could not be
answered, StageError if no other would be either; it is called by ``cfg.width()`` threads at once.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING

from llmhpc.generation import Answer, Sampling

Ask = Callable[[list[tuple[str, int]]], list[Answer]]


@dataclass(kw_only=True, slots=True)
class Backend:
    """Base of every backend's settings."""

    group: ClassVar[str] = "backend"

    kind: str = MISSING

    def model_name(self, folder: Path | None) -> str:
        """What the documents' metadata calls the model; ``folder`` is that of a step."""
        raise NotImplementedError

    def group_size(self) -> int:
        """Requests that are answered together: how many there are may change the answers."""
        return 1

    def width(self) -> int:
        """Groups that are asked at once."""
        return 1

    def optional_roles(self) -> dict[str, str]:
        """Steps that can play a part for this backend."""
        return {}

    def check_model(self, has_step: bool) -> None:
        """Raise ConfigError unless there is one model; ``has_step``: a step plays the role model."""

    def before_launch(self) -> None:
        """Raise ConfigError if something this backend needs is not there; quick, and nothing is asked."""


def open_backend(cfg: Backend, sampling: Sampling, folder: Path | None, rank: int) -> Ask:
    """Whichever backend ``cfg`` is; ``folder`` holds the model of a step, if one plays that role."""
    module = importlib.import_module(f"{__name__}.{cfg.kind}")
    return module.open_backend(cfg, sampling, folder, rank)
