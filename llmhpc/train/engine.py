"""The network and nanotron's pipeline over the processes of a layout, the optimizer, and one step of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from llmhpc.train import backend  # before any other part of nanotron

# isort: split
from nanotron.models import NanotronModel, build_model
from nanotron.parallel.parameters import sanity_check
from nanotron.parallel.pipeline_parallel.engine import (
    AllForwardAllBackwardPipelineEngine,
    OneForwardOneBackwardPipelineEngine,
)
from nanotron.parallel.pipeline_parallel.p2p import P2P
from nanotron.parallel.pipeline_parallel.tensor_pointer import TensorPointer
from nanotron.parallel.pipeline_parallel.utils import get_pp_rank_of
from nanotron.parallel.tensor_parallel.nn import TensorParallelLinearMode
from nanotron.parallel.tied_parameters import create_pg_for_tied_weights, tie_parameters

from llmhpc.kernels.documents import Documents, sent
from llmhpc.kernels.ring import Ring
from llmhpc.models import Model, Split, architecture
from llmhpc.processes import Place
from llmhpc.train.bad_steps import Bounds
from llmhpc.train.data import Rows
from llmhpc.train.imported import Imported
from llmhpc.train.optimizer import Optimizer
from llmhpc.train.pieces import Shards
from llmhpc.train.settings import Parallel, PipelineOrder, Schedule, TensorMode
from llmhpc.train.waits import Communication

PIPELINES = {
    PipelineOrder.one_forward_one_backward: OneForwardOneBackwardPipelineEngine,
    PipelineOrder.all_forward_all_backward: AllForwardAllBackwardPipelineEngine,
}

ANY = Bounds()  # whatever is finite


class StepResult(NamedTuple):
    """Mean loss of the global batch (nats per label that counts) and the gradient's norm before clipping.

    ``z_loss`` is beside the loss, not in it, and weighted as the schedule says.
    """

    loss: float
    grad_norm: float
    made: bool = True  # whether the weights were updated
    wishes: int = 0  # the largest ``wish`` of all processes
    z_loss: float = 0.0
    largest: tuple[float, ...] = ()  # of each number that was ``said``, over all processes


class Engine:
    """This process's part of the network in training; weights are drawn from ``seed``."""

    def __init__(
        self, model: Model, parallel: Parallel, schedule: Schedule, *, seed: int, place: Place
    ) -> None:
        self.place, self.schedule, self.parallel = place, schedule, parallel
        self.model = model
        on_cpu = place.device.type == "cpu"
        self.communication = Communication(place.device)
        backend.use(self.communication, gloo=on_cpu)
        self.context = backend.Groups(
            replicas=parallel.replicas(), cp=parallel.cp, tp=parallel.tp, pp=parallel.pp
        )
        self.ring = Ring(self.context.ring_pg) if self.context.ring_pg is not None else None
        self.p2p = (backend.GlooP2P if on_cpu else P2P)(self.context.pp_pg, place.device)
        for name in ("send_tensors", "recv_tensors"):
            setattr(self.p2p, name, self.communication.timed(getattr(self.p2p, name)))
        self.network = self._build(model)
        self.network.init_model_randomly(seed)
        self.optimizer = Optimizer(self.network, self.context, schedule, parallel)
        self.pipeline = PIPELINES[parallel.pp_order]()
        self.micro_batches = schedule.accumulation(parallel)
        self.row_losses: list[
            torch.Tensor
        ] = []  # of the last step, per micro-batch (B,), where there are losses
        self.updates = 0  # steps that changed the weights
        self.before_update: Callable[[], None] = lambda: (
            None
        )  # called when they are about to change

    def load(self, checkpoint: Path, updates: int) -> None:
        """Take weights and the optimizer's state, after ``updates`` steps of it, from a checkpoint of any layout."""
        self.optimizer.load(Shards(checkpoint), updates)
        self.updates = updates

    def take(self, pretrained: Path) -> None:
        """Take the weights of a Hugging Face folder; the optimizer begins anew."""
        self.optimizer.load(Imported(pretrained, self.model), updates=0)

    @property
    def dp_rank(self) -> int:
        """Whose sequences this process reads; those of a cp group read the same."""
        return dist.get_rank(self.context.dp_pg) // self.parallel.cp

    def describe(self) -> dict[str, Any]:
        """How the work is spread and which kernels do it."""
        return {
            "processes": self.place.size,
            "device": self.place.device.type,
            "dp": self.parallel.dp,
            "cp": self.parallel.cp,
            "tp": self.parallel.tp,
            "pp": self.parallel.pp,
            "micro_batches": self.micro_batches,
            "stage_parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "compile": self.parallel.compile,
            **self.network.choices(),
        }

    def step(
        self,
        rows: Iterable[Rows],
        lr: float,
        wish: int = 0,
        micro_batches: int | None = None,
        bounds: Bounds = ANY,
        said: Sequence[float] = (),
    ) -> StepResult:
        """One optimizer step on the micro-batches of this replica; none where loss or norm are beyond ``bounds``.

        Every process gets the same result. ``wish`` is what this process would like all to do after the step; a
        larger one wins, and of each number that is ``said`` all get the largest; ``micro_batches`` is how many there
        are, unless as many as the whole global batch has. The host waits for the device once, at the end.
        """
        micro_batches = micro_batches or self.micro_batches
        self.optimizer.begin(micro_batches)
        outputs = self.pipeline.train_batch_iter(
            model=self.network,
            pg=self.context.pp_pg,
            batch=self._inputs(rows),
            nb_microbatches=micro_batches,
            grad_accumulator=None,
        )
        losses = [output.get("row_losses") for output in outputs]
        self.row_losses = [row for row in losses if isinstance(row, torch.Tensor)]
        waiting = self.communication.waiting
        with waiting():
            if isinstance(self.p2p, backend.GlooP2P):
                self.p2p.drain()
            self.optimizer.finish()
        squares = self.optimizer.squares()
        with waiting():
            dist.all_reduce(squares, group=self.optimizer.norm_group)
            loss, z_loss = self._mean_losses(outputs, micro_batches)
        norm = squares.sqrt()
        good = loss.isfinite() & norm.isfinite()
        good &= (loss <= bounds.loss) & (norm <= bounds.grad_norm)
        # what one process refuses all do: norms of replicas may differ in the last bit
        votes = torch.stack([(~good).double(), *(norm.new_full((), n) for n in (wish, *said))])
        with waiting():
            dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.context.world_pg)
        self.before_update()
        self.optimizer.update(norm, lr, votes[0])
        with waiting():
            self.optimizer.settle()
        all_of_it = torch.stack([loss, norm, z_loss, *votes]).tolist()
        mean, grad_norm, z_mean, refused, wished, *largest = all_of_it
        self.updates += not refused
        return StepResult(mean, grad_norm, not refused, int(wished), z_mean, tuple(largest))

    def _build(self, model: Model) -> NanotronModel:
        split = Split(
            context=self.context,
            tp_mode=TensorParallelLinearMode[self.parallel.tp_mode.name],
            p2p=self.p2p,
            recompute=self.parallel.recompute,
            compile=self.parallel.compile,
            ring=self.ring,
        )
        network = build_model(
            model_builder=lambda: architecture(model).build(
                model, split, z_loss=self.schedule.z_loss
            ),
            parallel_context=self.context,
            dtype=getattr(torch, self.schedule.precision.name),
            device=self.place.device,
        )
        network.module_id_to_prefix = {id(m): f"{n}." for n, m in network.named_modules()}
        network.module_id_to_prefix[id(network)] = ""
        _tie(network, self.context, sequence_cut=self.parallel.tp_mode is TensorMode.REDUCE_SCATTER)
        sanity_check(network)
        return network

    def _inputs(self, rows: Iterable[Rows]) -> Iterator[dict[str, Any]]:
        """What the first stage and the last stage read; the others point to them. Every stage has the documents."""
        here = dist.get_rank(self.context.pp_pg)
        first, last = self.network.input_pp_rank, self.network.output_pp_rank
        device = self.place.device
        for row in rows:
            mine: slice | torch.Tensor = slice(None)
            if self.ring is not None:
                mine = self.ring.places(row.weights.shape[1] // self.ring.size)
            parts = (row.tokens[:, :-1], row.tokens[:, 1:], row.weights)
            inputs, labels, weights = (
                sent(torch.from_numpy(part)[:, mine], device) for part in parts
            )
            documents = None
            if row.positions is not None:
                documents = Documents(torch.from_numpy(row.positions)[:, mine], device)
            weights = weights / self.parallel.replicas()  # gradients are added up over them
            yield {
                "input_ids": inputs.contiguous() if here == first else TensorPointer(first),
                "label_ids": labels.contiguous() if here == last else TensorPointer(last),
                "label_weights": weights if here == last else TensorPointer(last),
                "documents": documents,
            }

    def _mean_losses(
        self, outputs: list[dict[str, torch.Tensor | TensorPointer]], micro_batches: int
    ) -> torch.Tensor:
        """Cross-entropy and z-loss. They are divided by the replicas already; one process per replica has them."""
        total = torch.zeros(2, device=self.place.device, dtype=torch.float64)
        if isinstance(outputs[0]["loss"], torch.Tensor) and dist.get_rank(self.context.tp_pg) == 0:
            for place, name in enumerate(("cross_entropy", "z_loss")):
                total[place] = torch.stack([output[name] for output in outputs]).sum()
        dist.all_reduce(total, group=self.context.world_pg)
        return total / micro_batches


def _tie(network: NanotronModel, context: backend.Groups, *, sequence_cut: bool) -> None:
    """Tell nanotron which parameters are copies of one another, and whose gradients are to be added.

    Tied embeddings are on the first and the last stage. What is not sharded is the same on all processes
    of a tensor-parallel group; where the sequence is cut, each of them sees a part of its gradient.
    """
    if names := network.get_embeddings_lm_head_tied_names():
        cell = context.world_rank_matrix[:, dist.get_rank(context.dp_pg), :]
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
