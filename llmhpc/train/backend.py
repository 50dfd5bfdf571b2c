"""What nanotron needs around it: each item answers one fault of it, and reaches nothing outside it.

Tested with 0.4 of PyPI. Its git HEAD calls itself 0.4, too: what only one of them has is asked for where it is used.
Import this module before any other part of nanotron. The other known faults are avoided instead: ``nanotron.trainer``
(which needs flash-attn and wandb, and trains its first step after a resume with learning rate 0) is not used.
"""

import sys
import types
from typing import Any

import torch
import torch.distributed as torch_dist


def _import_logging() -> None:
    """nanotron.logging and nanotron.config import each other (huggingface/nanotron#213).

    nanotron.logging takes one name from nanotron.config, for an annotation: it gets a placeholder.
    """
    if "nanotron.logging" in sys.modules:
        return
    package = types.ModuleType("nanotron.config")
    module = types.ModuleType("nanotron.config.config")
    package.__path__ = []  # type: ignore[attr-defined]
    module.LoggingArgs = object  # type: ignore[attr-defined]
    sys.modules |= {package.__name__: package, module.__name__: module}
    import nanotron.logging  # noqa: F401

    del sys.modules[package.__name__], sys.modules[module.__name__]
    vars(sys.modules["nanotron"]).pop("config", None)


_import_logging()

import nanotron.distributed as nanotron_dist
import numpy as np
from nanotron.parallel import ParallelContext
from nanotron.parallel.pipeline_parallel.p2p import P2P, P2PTensorMetaData

from llmhpc.train.waits import Communication

COLLECTIVES = {
    name: getattr(nanotron_dist, name)
    for name in ("all_reduce", "all_gather_into_tensor", "reduce_scatter_tensor")
}


class Groups(ParallelContext):
    """Process groups for a connection that exists already; nanotron's class would set a CUDA device.

    To nanotron all ``replicas`` are data parallel. The ``cp`` of them that share sequences are neighbours, on one node
    if it holds them, and have a group of their own (``ring_pg``, None for cp 1): what it sends waits for no gradients.
    """

    def __init__(self, *, replicas: int, cp: int, tp: int, pp: int) -> None:
        super().__init__(
            data_parallel_size=replicas, tensor_parallel_size=tp, pipeline_parallel_size=pp
        )
        self.ring_pg: torch_dist.ProcessGroup | None = None
        if cp > 1:
            cells = self.world_rank_matrix.reshape(pp, -1, cp, tp).swapaxes(2, 3).reshape(-1, cp)
            groups = {tuple(ranks): torch_dist.new_group(ranks) for ranks in cells.tolist()}
            here = torch_dist.get_rank()
            self.ring_pg = next(group for ranks, group in groups.items() if here in ranks)

    def _init_parallel_groups(self) -> None:
        """The groups that are used here. nanotron's HEAD has more, and wants a node's processes to be the first ones."""
        shape = self.pipeline_parallel_size, self.data_parallel_size, self.tensor_parallel_size
        pp, dp, tp = shape
        ranks = np.arange(pp * dp * tp).reshape(shape)
        self.world_rank_matrix, self.parallel_order = ranks, ["pp", "dp", "tp"]
        self.world_ranks_to_pg: dict[tuple[int, ...], torch_dist.ProcessGroup] = {}
        self.tp_pg = self.create_new_group(ranks.reshape(-1, tp))
        self.dp_pg = self.create_new_group(ranks.transpose(0, 2, 1).reshape(-1, dp))
        self.pp_pg = self.create_new_group(ranks.transpose(1, 2, 0).reshape(-1, pp))
        self.mp_pg = self.create_new_group(ranks.transpose(1, 0, 2).reshape(dp, -1))

    def set_device(self) -> None:
        """Done by llmhpc.processes."""


def gloo_all_reduce(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
    """all_reduce for gloo, which refuses tensors that need a gradient."""
    return torch_dist.all_reduce(tensor.detach(), *args, **options)


def gloo_reduce_scatter(
    output: torch.Tensor, input: torch.Tensor, *args: Any, **options: Any
) -> Any:
    """reduce_scatter_tensor for gloo, which wants the same axes on both sides; HEAD has three on one, two on the other."""
    return torch_dist.reduce_scatter_tensor(output.view(-1), input.view(-1), *args, **options)


OF_GLOO = {"all_reduce": gloo_all_reduce, "reduce_scatter_tensor": gloo_reduce_scatter}


class GlooP2P(P2P):
    """Sends that do not wait: a blocking gloo send ends when the other side receives, and two stages that
    send to each other would wait for ever. ``drain`` at the end of a step keeps tensors alive until then."""

    def __init__(self, pg: torch_dist.ProcessGroup, device: torch.device) -> None:
        super().__init__(pg, device)
        self.pending: list[tuple[Any, Any]] = []

    def _send_meta(self, tensor: torch.Tensor, to_rank: int, tag: int) -> None:
        peer = nanotron_dist.get_global_rank(group=self.pg, group_rank=to_rank)
        for describe in (P2PTensorMetaData.to_first_metadata, P2PTensorMetaData.to_second_metadata):
            header = describe(tensor, self.device)
            work = torch_dist.isend(header, dst=peer, group=self.pg, tag=tag)
            self.pending.append((work, header))

    def send_tensors(self, tensors: list[torch.Tensor], to_rank: int, tag: int = 0) -> None:
        """Start sending; nanotron's own waits here."""
        for work in self.isend_tensors(tensors, to_rank=to_rank, tag=tag):
            self.pending.append((work, tensors))

    def drain(self) -> None:
        """Wait until everything has been received."""
        for work, _ in self.pending:
            work.wait()
        self.pending.clear()


class HostBuffer:
    """What HEAD gathers activations in, on the host; its own is on a CUDA device."""

    def get(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Room that is free again at the end of a layer."""
        return torch.empty(shape, dtype=dtype)


def use(communication: Communication, *, gloo: bool) -> None:
    """Give nanotron (and nothing else) the reductions and buffers of the back end in use, and have its collectives timed."""
    # neither can be the first part of nanotron to be imported
    from nanotron.parallel import utils as parallel_utils
    from nanotron.parallel.tensor_parallel import functional as tensor_parallel

    calls = COLLECTIVES | (OF_GLOO if gloo else {})
    for name, call in calls.items():
        setattr(nanotron_dist, name, communication.timed(call))
    if hasattr(parallel_utils, "MemoryBuffer"):
        tensor_parallel.MemoryBuffer = HostBuffer if gloo else parallel_utils.MemoryBuffer
