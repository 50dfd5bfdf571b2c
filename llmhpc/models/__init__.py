"""Model architectures: one package each, with its settings, its network and its Hugging Face names.

A package here is an option of the configuration group ``model``. It holds ``Config`` (a Model), ``build``
(the network on nanotron's parallel layers) and a module ``hugging_face`` (``config`` and ``tensors`` of an
export).
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from omegaconf import MISSING

if TYPE_CHECKING:
    from nanotron.parallel import ParallelContext
    from nanotron.parallel.pipeline_parallel.p2p import P2P
    from nanotron.parallel.tensor_parallel.nn import TensorParallelLinearMode


@dataclass(kw_only=True, slots=True)
class Model:
    """What training, export and planning need to know of any architecture."""

    group: ClassVar[str] = "model"

    kind: str = MISSING
    vocab_size: int = MISSING

    def parameters(self) -> int:
        """Number of trained parameters, each counted once when tied."""
        raise NotImplementedError

    def check_split(self, *, tp: int, pp: int) -> None:
        """Raise ConfigError unless the network can be cut into ``tp`` slices and ``pp`` stages."""
        raise NotImplementedError


@dataclass(frozen=True)
class Split:
    """How a network is cut over processes, in nanotron's terms; what ``build`` gets."""

    context: "ParallelContext"
    tp_mode: "TensorParallelLinearMode"
    p2p: "P2P"
    recompute: bool = False  # drop activations of a layer, compute them again in the backward pass


def architecture(model: Model) -> ModuleType:
    """The package that builds ``model``."""
    return importlib.import_module(f"{__name__}.{model.kind}")


def hugging_face(model: Model) -> ModuleType:
    """The module that says how Hugging Face names the parts of ``model``."""
    return importlib.import_module(f"{__name__}.{model.kind}.hugging_face")
