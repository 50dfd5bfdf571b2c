"""Model architectures: one package each, with its settings, its network and its Hugging Face names.

A package here is an option of the configuration group ``model``. It holds ``Config`` (a Model), ``build``
(the network on nanotron's parallel layers, with its loss) and a module ``hugging_face``: MODEL_TYPES, ``config`` of an
export, ``settings`` of a config.json, and ``rows``, which of its tensors is what of ours.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from omegaconf import MISSING

if TYPE_CHECKING:
    from nanotron.parallel import ParallelContext
    from nanotron.parallel.pipeline_parallel.p2p import P2P
    from nanotron.parallel.tensor_parallel.nn import TensorParallelLinearMode

    from llmhpc.kernels.ring import Ring


class StageParts(NamedTuple):
    """What one process of a pipeline stage holds."""

    layers: int
    parameters: int
    head: bool  # the output layer and the loss


class Activations(NamedTuple):
    """Bytes that one micro-batch takes on one process, besides weights and gradients."""

    layer: int  # kept by a layer for its backward pass
    layer_input: int  # kept instead of that where layers are recomputed
    layer_backward: int  # for a moment, in the backward pass of a layer
    head: int  # kept by the output layer and the loss
    loss: int  # for a moment, where the loss is computed


class Rows(NamedTuple):
    """A tensor of Hugging Face's: rows ``start`` to ``stop`` of one of ours."""

    theirs: str
    ours: str
    start: int
    stop: int


@dataclass(kw_only=True, slots=True)
class Model:
    """What training, export and planning need to know of any architecture."""

    group: ClassVar[str] = "model"

    kind: str = MISSING
    vocab_size: int = MISSING

    def parameters(self) -> int:
        """Number of trained parameters, each counted once when tied."""
        raise NotImplementedError

    def flops_per_token(self, sequence_length: int) -> float:
        """Of training, forward and backward: 6 for each parameter (Kaplan et al., arXiv:2001.08361), and attention's."""
        raise NotImplementedError

    def check_split(self, *, tp: int, pp: int) -> None:
        """Raise ConfigError unless the network can be cut into ``tp`` slices and ``pp`` stages."""
        raise NotImplementedError

    def stages(self, *, tp: int, pp: int) -> list[StageParts]:
        """What a process of each pipeline stage holds, in order."""
        raise NotImplementedError

    def activations(
        self, tokens: int, *, tp: int, sequence_cut: bool, width: int, fused: bool
    ) -> Activations:
        """Bytes of a micro-batch of ``tokens`` in numbers of ``width`` bytes.

        ``sequence_cut``: tensors between layers are cut along the sequence, too. ``fused``: on a GPU, where
        a norm is one kernel.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Split:
    """How a network is cut over processes, in nanotron's terms; what ``build`` gets."""

    context: "ParallelContext"
    tp_mode: "TensorParallelLinearMode"
    p2p: "P2P"
    recompute: bool = False  # drop activations of a layer, compute them again in the backward pass
    compile: bool = False  # torch.compile what a layer computes
    ring: "Ring | None" = None  # of processes that share each sequence


def stage_of_blocks(costs: list[int], pp: int) -> list[int]:
    """The pipeline stage of each block, by nanotron's rule: a stage is filled until it is beyond its share.

    It is written in build_model (nanotron 0.4, nanotron/models/base.py).
    """
    stages, stage, total = [], 0, 0
    for cost in costs:
        stages.append(stage)
        total += cost
        stage += total > sum(costs) * ((stage + 1) / pp)
    return stages


def architecture(model: Model) -> ModuleType:
    """The package that builds ``model``."""
    return importlib.import_module(f"{__name__}.{model.kind}")


def hugging_face(kind: str) -> ModuleType:
    """The module that says how Hugging Face names the parts of a model of this architecture."""
    return importlib.import_module(f"{__name__}.{kind}.hugging_face")
