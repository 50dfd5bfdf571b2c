"""AdamW over flat buckets: gradients are summed in float32, met over the replicas while the backward pass goes on, and
with ZeRO-1 (Rajbhandari et al., arXiv:1910.02054) each replica updates its part of a bucket.

nanotron's own optimizer writes the word cuda out, keeps a second copy of the gradients and pickles its state, which it
cannot read in another layout.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from nanotron.models import NanotronModel
from nanotron.parallel import ParallelContext

from llmhpc.train.imported import Imported
from llmhpc.train.pieces import Piece, Shards, cut_of, parameter_name
from llmhpc.train.settings import Parallel, Precision, Schedule

BUCKET_NUMBERS = 12_500_000  # of float32: 50 MB
SMALLEST_NORM = 1e-6  # added to the norm, as torch.nn.utils.clip_grad_norm_ does
ROW = 1024  # numbers whose squares are summed at once: short sums stay exact in float32

reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Kind(NamedTuple):
    """What the parameters of one bucket have in common."""

    tied: tuple[
        int, ...
    ]  # global ranks of the processes of a replica that have a copy; empty: this one alone
    summed: bool  # each copy has a part of the gradient
    decays: bool  # norms and embeddings do not: there is nothing that their size could overfit
    lr_scale: float  # what the schedule's learning rate is multiplied by


class Part(NamedTuple):
    """A parameter and its place in the bucket."""

    name: str
    parameter: torch.nn.Parameter
    start: int

    @property
    def stop(self) -> int:
        return self.start + self.parameter.numel()


class Bucket:
    """Parameters of one kind as one row of numbers, which ``replicas`` can share.

    ``own`` is what this process updates: all of it, or with ZeRO-1 its share.
    """

    def __init__(
        self, kind: Kind, named: list[tuple[str, torch.nn.Parameter]], replicas: int, share: int
    ) -> None:
        self.kind, self.parts = kind, []
        size = 0
        for name, parameter in named:
            self.parts.append(Part(name, parameter, size))
            size += parameter.numel()
        size = -(-size // (replicas * ROW)) * replicas * ROW  # all shares are rounded alike
        first = named[0][1]
        self.weights = torch.zeros(size, dtype=first.dtype, device=first.device)
        self.gradients = torch.zeros(size, dtype=torch.float32, device=first.device)
        each = size // replicas
        self.own = slice(share * each, (share + 1) * each)
        for part in self.parts:
            self.weights[part.start : part.stop] = part.parameter.detach().flatten()
            part.parameter.data = self.weights[part.start : part.stop].view_as(part.parameter)
        own = self.weights[self.own]
        self.master = torch.nn.Parameter(own if own.dtype == torch.float32 else own.float())
        self.master.grad = self.gradients[self.own]
        self.work: Any = None  # the meeting of the replicas that goes on

    def gradient(self, part: Part) -> torch.Tensor:
        """In the parameter's shape."""
        return self.gradients[part.start : part.stop].view_as(part.parameter)


class Optimizer:
    """Call ``begin`` before the backward passes of a step, ``finish`` after them and then ``update``."""

    def __init__(
        self,
        network: NanotronModel,
        context: ParallelContext,
        schedule: Schedule,
        parallel: Parallel,
    ) -> None:
        self.network, self.context = network, context
        self.clip_norm = schedule.clip_norm or float("inf")
        self.replicas, self.rank = parallel.replicas(), dist.get_rank()
        self.zero = bool(parallel.zero_stage) and self.replicas > 1
        share = (self.replicas, dist.get_rank(context.dp_pg)) if self.zero else (1, 0)
        self.buckets = [Bucket(kind, named, *share) for kind, named in self._grouped()]
        self.half = schedule.precision is not Precision.float32
        self.adam = torch.optim.AdamW(
            self._updated_alike(schedule.weight_decay),
            betas=(schedule.beta1, schedule.beta2),
            eps=schedule.epsilon,
            fused=True,
        )
        for (
            bucket
        ) in self.buckets:  # there from the start, so that a checkpoint can be read into them
            master = bucket.master
            self.adam.state[master] = {
                "step": torch.zeros((), dtype=torch.float32, device=master.device),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }
        self._missing: list[int] = []  # gradients that each bucket still waits for in this step
        self._next = 0  # buckets meet in the reversed order, the same in all replicas
        for number, bucket in enumerate(self.buckets):
            for part in bucket.parts:
                self._listen(number, bucket, part)

    def _updated_alike(self, weight_decay: float) -> list[dict[str, Any]]:
        """AdamW's groups. It multiplies decay by learning rate: the product goes without ``lr_scale``, as in mup's MuAdamW."""
        masters: dict[tuple[bool, float], list[torch.nn.Parameter]] = {}
        for bucket in self.buckets:
            masters.setdefault((bucket.kind.decays, bucket.kind.lr_scale), []).append(bucket.master)
        return [
            {
                "params": own,
                "weight_decay": weight_decay / scale if decays else 0.0,
                "lr_scale": scale,
            }
            for (decays, scale), own in masters.items()
        ]

    def _grouped(self) -> Iterator[tuple[Kind, list[tuple[str, torch.nn.Parameter]]]]:
        kinds: dict[Kind, list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in self.network.get_named_params_with_correct_tied():
            info = parameter.get_tied_info() if parameter.is_tied else None
            tied = tuple(map(int, info.global_ranks)) if info else ()
            tied = tied if len(tied) > 1 else ()
            summed = info is not None and bool(tied) and info.reduce_op is not None
            name = parameter_name(name)
            of_model = self.network.decays(name, parameter), self.network.lr_scale(name, parameter)
            kind = Kind(tied, summed, *of_model)
            kinds.setdefault(kind, []).append((name, parameter))
        # last is first to meet: what the backward pass ends with stands in front
        for kind in sorted(kinds, key=lambda kind: (kind.decays, kind)):
            named = kinds[kind]
            bucket: list[tuple[str, torch.nn.Parameter]] = []
            size = 0
            for name, parameter in named:
                if bucket and size + parameter.numel() > BUCKET_NUMBERS:
                    yield kind, bucket
                    bucket, size = [], 0
                bucket.append((name, parameter))
                size += parameter.numel()
            yield kind, bucket

    def _listen(self, number: int, bucket: Bucket, part: Part) -> None:
        gradient = bucket.gradient(part)
        in_place = part.parameter.dtype == torch.float32  # autograd adds to what is there

        def arrived(parameter: torch.nn.Parameter) -> None:
            if not in_place and parameter.grad is not None:
                gradient.add_(parameter.grad)
                parameter.grad = None
            self._missing[number] -= 1
            self._meet_those_ready()

        if in_place:
            part.parameter.grad = gradient
        part.parameter.register_post_accumulate_grad_hook(arrived)

    def begin(self, micro_batches: int) -> None:
        """Forget the last step's gradients; as many backward passes are to come."""
        for bucket in self.buckets:
            bucket.gradients.zero_()
        self._missing = [len(bucket.parts) * micro_batches for bucket in self.buckets]
        self._next = len(self.buckets) - 1

    def _meet_those_ready(self) -> None:
        while (
            self._next >= 0
            and not self._missing[self._next]
            and not self.buckets[self._next].kind.summed
        ):
            self._meet(self.buckets[self._next])
            self._next -= 1

    def _meet(self, bucket: Bucket) -> None:
        """Start adding up the replicas' gradients."""
        group = self.context.dp_pg
        if self.zero:
            own = bucket.gradients[bucket.own]
            bucket.work = reduce_scatter(own, bucket.gradients, group=group, async_op=True)
        elif self.replicas > 1:
            bucket.work = dist.all_reduce(bucket.gradients, group=group, async_op=True)

    def finish(self) -> None:
        """Wait until all gradients are there. A copy's gradient is a part of the parameter's: they are added first."""
        for bucket in self.buckets:
            if bucket.kind.summed:
                dist.all_reduce(
                    bucket.gradients, group=self.context.world_ranks_to_pg[bucket.kind.tied]
                )
        while self._next >= 0:
            self._meet(self.buckets[self._next])
            self._next -= 1
        self.settle()

    def settle(self) -> None:
        """Wait for what the replicas are about to tell each other."""
        for bucket in self.buckets:
            if bucket.work is not None:
                bucket.work.wait()
                bucket.work = None

    def counts(self, bucket: Bucket) -> bool:
        """Whether this process is the one that counts a bucket, of those of a replica that have it."""
        return not bucket.kind.tied or bucket.kind.tied[0] == self.rank

    def squares(self) -> torch.Tensor:
        """The squared norm of the gradients that this process counts; their sum over ``norm_group`` is the whole."""
        total = torch.zeros((), dtype=torch.float64, device=self.buckets[0].weights.device)
        for bucket in self.buckets:
            if self.counts(bucket):
                total += _squares(bucket.gradients[bucket.own])
        return total

    @property
    def norm_group(self) -> dist.ProcessGroup:
        """One replica's processes, or all where each replica has another share."""
        return self.context.world_pg if self.zero else self.context.mp_pg

    def update(self, norm: torch.Tensor, lr: float, refused: torch.Tensor) -> None:
        """One step of AdamW (arXiv:1711.05101), with gradients cut to the limit; none where ``refused`` is not 0.

        Decided on the device, which nothing here waits for. ``settle`` has to follow.
        """
        # what torch.amp.GradScaler sets: gradients are divided by the one, and not used if the other is 1
        scale = ((norm + SMALLEST_NORM) / self.clip_norm).clamp(min=1.0).float()
        vars(self.adam).update(grad_scale=scale, found_inf=refused.float())
        for group in self.adam.param_groups:
            group["lr"] = lr * group["lr_scale"]
        self.adam.step()
        for bucket in self.buckets:
            if self.half:
                bucket.weights[bucket.own] = bucket.master.detach()
            if self.zero:
                own = bucket.weights[bucket.own]
                bucket.work = all_gather(
                    bucket.weights, own, group=self.context.dp_pg, async_op=True
                )

    def pieces(self) -> Iterator[Piece]:
        """Every row of numbers that this process holds and a checkpoint has.

        Of copies one writes: the first of a replica, and of the replicas the first. ZeRO-1 cuts the optimizer's rows.
        """
        first_replica = dist.get_rank(self.context.dp_pg) == 0
        for bucket in self.buckets:
            mine = self.counts(bucket)
            state = self.adam.state[bucket.master]
            own = {"exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
            if self.half:  # the weights in full precision
                own["master"] = bucket.master.detach()
            for part in bucket.parts:
                cut = cut_of(part.parameter, 0, part.parameter.numel())
                row = bucket.weights[part.start : part.stop]
                yield Piece(f"weight/{part.name}", cut, row, mine and first_replica)
                start = max(part.start, bucket.own.start)
                stop = min(part.stop, bucket.own.stop)
                if start >= stop:
                    continue
                cut = cut_of(part.parameter, start - part.start, stop - part.start)
                held = slice(start - bucket.own.start, stop - bucket.own.start)
                for kind, whole in own.items():
                    written = mine and (self.zero or first_replica)
                    yield Piece(f"{kind}/{part.name}", cut, whole[held], written)

    def load(self, shards: Shards | Imported, updates: int) -> None:
        """Fill every row; ``updates`` steps of AdamW were made. Without a state of the optimizer it starts anew."""
        with torch.no_grad():
            for piece in self.pieces():
                kind = piece.key.partition("/")[0]
                if piece.key in shards or kind == "weight":
                    piece.row.copy_(shards.row(piece.key, piece.cut))
            for bucket in self.buckets:
                if self.half and not any(f"master/{part.name}" in shards for part in bucket.parts):
                    bucket.master.copy_(bucket.weights[bucket.own])
                self.adam.state[bucket.master]["step"].fill_(updates)


def _squares(row: torch.Tensor) -> torch.Tensor:
    """The sum of squares of a row, in float64."""
    return torch.linalg.vector_norm(row.view(-1, ROW), dim=1).double().square().sum()
