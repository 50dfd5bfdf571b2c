"""nanotron's parts assembled over the processes of a layout: network, optimizer, pipeline, and one step of them."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from llmhpc.train import backend  # before any other part of nanotron

# isort: split
from nanotron.config import LRSchedulerArgs, OptimizerArgs
from nanotron.helpers import init_optimizer_and_grad_accumulator
from nanotron.models import NanotronModel, build_model, check_model_has_grad
from nanotron.parallel.data_parallel.utils import sync_gradients_across_dp
from nanotron.parallel.parameters import sanity_check
from nanotron.parallel.pipeline_parallel import TensorPointer, get_pp_rank_of
from nanotron.parallel.pipeline_parallel.engine import (
    AllForwardAllBackwardPipelineEngine,
    OneForwardOneBackwardPipelineEngine,
)
from nanotron.parallel.pipeline_parallel.p2p import P2P
from nanotron.parallel.tensor_parallel.nn import TensorParallelLinearMode
from nanotron.parallel.tied_parameters import (
    create_pg_for_tied_weights,
    sync_tied_weights_gradients,
    tie_parameters,
)
from nanotron.serialize.optimizer import load_optimizer
from nanotron.serialize.weights import load_weights
from torch.nn.parallel import DistributedDataParallel

from llmhpc.models import Model, Split, architecture
from llmhpc.train.clipping import clip_gradients
from llmhpc.train.data import Rows
from llmhpc.train.processes import Place
from llmhpc.train.settings import Parallel, PipelineOrder, Precision, Schedule, TensorMode

PIPELINES = {
    PipelineOrder.one_forward_one_backward: OneForwardOneBackwardPipelineEngine,
    PipelineOrder.all_forward_all_backward: AllForwardAllBackwardPipelineEngine,
}
DDP_BUCKET_MB = 25


class StepResult(NamedTuple):
    """Mean loss of the global batch (nats per label that counts) and the gradient's norm before clipping."""

    loss: float
    grad_norm: float
    wishes: int = 0  # the largest ``wish`` of all processes


class Engine:
    """This process's part of the network in training.

    With ``checkpoint`` (the folder of one step) weights and optimizer are read from there, otherwise
    weights are drawn from ``seed``.
    """

    def __init__(
        self,
        model: Model,
        parallel: Parallel,
        schedule: Schedule,
        *,
        seed: int,
        place: Place,
        checkpoint: Path | None,
    ) -> None:
        self.place, self.schedule, self.parallel = place, schedule, parallel
        on_cpu = place.device.type == "cpu"
        backend.use_gloo(yes=on_cpu)
        self.context = backend.Groups(
            data_parallel_size=parallel.dp,
            tensor_parallel_size=parallel.tp,
            pipeline_parallel_size=parallel.pp,
        )
        self.p2p = (backend.GlooP2P if on_cpu else P2P)(self.context.pp_pg, place.device)
        self.network = self._build(model)
        if checkpoint is None:
            self.network.init_model_randomly(seed)
        else:
            shards = load_weights(self.network, self.context, root_folder=checkpoint)
        self.wrapped = self._replicate()
        with backend.CudaIsCpu() if on_cpu else nullcontext():
            self.optimizer, self.accumulator = init_optimizer_and_grad_accumulator(
                self.wrapped, _optimizer_settings(schedule, parallel), self.context
            )
            if checkpoint is not None:
                load_optimizer(
                    self.optimizer,
                    self.context,
                    root_folder=checkpoint,
                    map_location=str(place.device),
                    param_shard_metadata=shards,
                    model=self.network,
                )
        self.pipeline = PIPELINES[parallel.pp_order]()
        self.micro_batches = schedule.accumulation(parallel)

    @property
    def dp_rank(self) -> int:
        """Which replica of the network this process is part of."""
        return dist.get_rank(self.context.dp_pg)

    def describe(self) -> dict[str, Any]:
        """How the work is spread and which kernels do it."""
        return {
            "processes": self.place.size,
            "device": self.place.device.type,
            "dp": self.parallel.dp,
            "tp": self.parallel.tp,
            "pp": self.parallel.pp,
            "micro_batches": self.micro_batches,
            "stage_parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            **self.network.choices(),
        }

    def step(self, rows: Iterable[Rows], lr: float, wish: int = 0) -> StepResult:
        """One optimizer step on the micro-batches of this replica.

        Every process gets the same result. A loss or norm that is not finite leaves the weights spoilt.
        ``wish`` is what this process would like all to do after the step; a larger one wins.
        """
        outputs = self.pipeline.train_batch_iter(
            model=self.wrapped,
            pg=self.context.pp_pg,
            batch=self._inputs(rows),
            nb_microbatches=self.micro_batches,
            grad_accumulator=self.accumulator,
        )
        if isinstance(self.p2p, backend.GlooP2P):
            self.p2p.drain()
        self._reduce_gradients()
        norm = clip_gradients(
            self._gradients(),
            limit=self.schedule.clip_norm or float("inf"),
            group=self.context.mp_pg,
            device=self.place.device,
        )
        for group in self.optimizer.get_base_optimizer().param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(self._mean_loss(outputs), norm.item(), self._largest(wish))

    def _build(self, model: Model) -> NanotronModel:
        split = Split(
            context=self.context,
            tp_mode=TensorParallelLinearMode[self.parallel.tp_mode.name],
            p2p=self.p2p,
            recompute=self.parallel.recompute,
        )
        network = build_model(
            model_builder=lambda: architecture(model).build(model, split),
            parallel_context=self.context,
            dtype=getattr(torch, self.schedule.precision.name),
            device=self.place.device,
        )
        for (
            parameter
        ) in network.parameters():  # shapes of numpy integers do not survive a checkpoint
            if getattr(parameter, "is_sharded", False):
                info = parameter.get_sharded_info()
                info.unsharded_shape = tuple(int(size) for size in info.unsharded_shape)
        network.module_id_to_prefix = {id(m): f"{n}." for n, m in network.named_modules()}
        network.module_id_to_prefix[id(network)] = ""
        _tie(network, self.context, sequence_cut=self.parallel.tp_mode is TensorMode.REDUCE_SCATTER)
        sanity_check(network)
        return network

    def _replicate(self) -> torch.nn.Module:
        """DDP over the replicas, unless ZeRO with float32 accumulation reduces gradients itself."""
        own_reduction = self.schedule.precision is Precision.bfloat16 and self.parallel.zero_stage
        if self.parallel.dp == 1 or own_reduction:
            return self.network
        check_model_has_grad(self.network, self.context)
        return DistributedDataParallel(
            self.network,
            process_group=self.context.dp_pg,
            broadcast_buffers=False,
            bucket_cap_mb=DDP_BUCKET_MB,
        )

    def _inputs(self, rows: Iterable[Rows]) -> Iterator[dict[str, torch.Tensor | TensorPointer]]:
        """What the first stage and the last stage read; the others point to them."""
        here = dist.get_rank(self.context.pp_pg)
        first, last = self.network.input_pp_rank, self.network.output_pp_rank
        for row in rows:
            tokens, weights = (torch.from_numpy(part).to(self.place.device) for part in row)
            yield {
                "input_ids": tokens[:, :-1].contiguous() if here == first else TensorPointer(first),
                "label_ids": tokens[:, 1:].contiguous() if here == last else TensorPointer(last),
                "label_weights": weights if here == last else TensorPointer(last),
            }

    def _reduce_gradients(self) -> None:
        if isinstance(self.wrapped, DistributedDataParallel):
            if self.accumulator is not None:
                self.accumulator.fp32_grads_allreduce_handle.wait()
        elif self.parallel.dp > 1:
            sync_gradients_across_dp(
                module=self.network,
                dp_pg=self.context.dp_pg,
                reduce_op=dist.ReduceOp.AVG,
                reduce_scatter=False,
                grad_accumulator=self.accumulator,
            )
        sync_tied_weights_gradients(self.network, self.context, self.accumulator)

    def _gradients(self) -> Iterator[tuple[torch.Tensor, bool]]:
        """Every gradient of this process, and whether it is this process that counts it in the norm."""
        for name, parameter in self.network.get_named_params_with_correct_tied():
            mine = not parameter.is_tied or (
                parameter.get_tied_info().global_ranks[0] == self.place.rank
            )
            if self.accumulator is None:
                yield parameter.grad, mine
            else:
                yield self.accumulator.get_grad_buffer(name), mine

    def _largest(self, wish: int) -> int:
        largest = torch.tensor(wish, device=self.place.device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self.context.world_pg)
        return int(largest.item())

    def _mean_loss(self, outputs: list[dict[str, torch.Tensor | TensorPointer]]) -> float:
        """Micro-batch losses are already divided by their number; one process per replica has them."""
        total = torch.zeros((), device=self.place.device)
        if isinstance(outputs[0]["loss"], torch.Tensor) and dist.get_rank(self.context.tp_pg) == 0:
            total += torch.stack([output["loss"] for output in outputs]).sum() / self.parallel.dp
        dist.all_reduce(total, group=self.context.world_pg)
        return total.item()


def _optimizer_settings(schedule: Schedule, parallel: Parallel) -> OptimizerArgs:
    return OptimizerArgs(
        zero_stage=parallel.zero_stage,
        weight_decay=schedule.weight_decay,
        clip_grad=schedule.clip_norm or None,
        accumulate_grad_in_fp32=schedule.precision is Precision.bfloat16,
        adam_eps=schedule.epsilon,
        adam_beta1=schedule.beta1,
        adam_beta2=schedule.beta2,
        torch_adam_is_fused=True,
        learning_rate_scheduler=LRSchedulerArgs(
            learning_rate=schedule.lr, lr_warmup_style="linear"
        ),
    )


def _tie(network: NanotronModel, context: backend.Groups, *, sequence_cut: bool) -> None:
    """Tell nanotron which parameters are copies of one another, and whose gradients are to be added.

    Tied embeddings are on the first and the last stage. What is not sharded is the same on all processes
    of a tensor-parallel group; where the sequence is cut, each of them sees a part of its gradient.
    """
    if names := network.get_embeddings_lm_head_tied_names():
        cell = context.world_rank_matrix[0, :, dist.get_rank(context.dp_pg), :]
        tp_rank = dist.get_rank(context.tp_pg)
        ties = [(name, (int(cell[get_pp_rank_of(name, network), tp_rank]),)) for name in names]
        tie_parameters(network, ties, context, reduce_op=dist.ReduceOp.SUM)
    group = tuple(sorted(dist.get_process_group_ranks(context.tp_pg)))
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if getattr(parameter, "is_sharded", False) or getattr(parameter, "is_tied", False):
                continue
            reduce_op = dist.ReduceOp.SUM if sequence_cut else None
            tie_parameters(
                network, [(f"{module_name}.{name}", group)], context, reduce_op=reduce_op
            )
    create_pg_for_tied_weights(network, context)
