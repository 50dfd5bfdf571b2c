"""What goes on inside the network, every so many steps: norms by layer and part, outliers of activations, loss by source.

All of it is the same in every layout, up to rounding.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from llmhpc.train.data import Rows
from llmhpc.train.engine import Engine
from llmhpc.train.optimizer import Bucket

NORMS = ("gradient", "update", "weight")
# the first of these that a parameter's name has, and the part of the network that it is of
PARTS = {
    "norm": "norms",
    "embedding": "embedding",
    "head": "head",
    "qkv": "attention",
    "attention": "attention",
}


class Watching(NamedTuple):
    """How a training is watched."""

    every: int = 0  # steps between records of watch.jsonl; 0: none
    wandb: bool = False
    hang_timeout_s: float = 0.0  # 0: never
    health_check: bool = False


def group_of(name: str) -> str:
    """layers.0.qkv.weight is layers.0.attention: the layer, if it is one's, and the part of it."""
    layer = re.match(r"layers\.\d+\.", name)
    rest = name[layer.end() :] if layer else name
    part = next(
        (part for word, part in PARTS.items() if word in rest),
        "feed_forward",
    )
    return f"{layer.group() if layer else ''}{part}"


class Gauges:
    """Of one process's part of the network. All processes call ``begin`` and ``record`` at the same steps.

    A step that is watched holds a copy of the weights that this process updates, in float32, until it ends.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.optimizer = engine, engine.optimizer
        own = {group_of(part.name) for bucket in self.optimizer.buckets for part in bucket.parts}
        everyones: list[Any] = [None] * engine.place.size
        dist.all_gather_object(everyones, sorted(own))
        self.groups = sorted(set().union(*everyones), key=_in_order)
        self.on = False
        self._before: list[torch.Tensor] = []
        layers = list(engine.network.layers)
        # per layer: numbers, sum of squares, sum of fourth powers; and the largest
        self._sums = torch.zeros(len(layers), 3, dtype=torch.float64, device=engine.place.device)
        self._largest = torch.zeros(len(layers), dtype=torch.float64, device=engine.place.device)
        self._norms = torch.zeros(
            len(NORMS), len(self.groups), dtype=torch.float64, device=engine.place.device
        )
        for number, layer in enumerate(layers):
            if (inner := getattr(layer, "pp_block", None)) is not None:
                inner.register_forward_hook(self._look_at(number))

    def begin(self) -> None:
        """The next step is watched; ``record`` follows if it is made."""
        self.on = True
        for numbers in (self._sums, self._largest, self._norms):
            numbers.zero_()

    def before_update(self) -> None:
        """Call when gradients are there and weights are about to change."""
        if self.on:
            self._before = [b.master.detach().clone() for b in self.optimizer.buckets]
            self._add(0, [bucket.gradients[bucket.own] for bucket in self.optimizer.buckets])

    def record(self, rows: list[Rows], sources: list[list[str]]) -> dict[str, Any]:
        """After the step; ``sources``: of each sequence of each micro-batch in ``rows``, none for a single one.

        ``norms``: of each group the Euclidean norm of gradient (before clipping), update and weight. ``activations``:
        of the output of each layer the largest magnitude and the kurtosis about zero, mean x^4 / (mean x^2)^2, which
        is 3 for normal numbers and grows with outliers (He et al. 2024, arXiv:2405.19279). ``sources``: mean loss in
        nats per label that counts, its perplexity, and sequences. The host waits for the device.
        """
        self.on = False
        now = [bucket.master.detach() for bucket in self.optimizer.buckets]
        self._add(1, [after - before for after, before in zip(now, self._before, strict=True)])
        self._add(2, now)
        self._before = []
        dist.all_reduce(self._norms, group=self.optimizer.norm_group)
        dist.all_reduce(self._sums)
        dist.all_reduce(self._largest, op=dist.ReduceOp.MAX)
        count, squares, fourths = self._sums.unbind(1)
        kurtosis = count * fourths / squares.square()
        norms, layers = (
            self._norms.sqrt().T.tolist(),
            zip(self._largest.tolist(), kurtosis.tolist(), strict=True),
        )
        return {
            "norms": {
                g: dict(zip(NORMS, three, strict=True))
                for g, three in zip(self.groups, norms, strict=True)
            },
            "activations": {
                f"layers.{i}": {"max": largest, "kurtosis": k}
                for i, (largest, k) in enumerate(layers)
            },
        } | self._by_source(rows, sources)

    def _look_at(self, number: int) -> Any:
        def look(module: torch.nn.Module, inputs: object, output: dict[str, torch.Tensor]) -> None:
            if not self.on:
                return
            x = output["hidden"].detach().float()
            squares = x.square()
            sums = self._sums[number]
            sums[0] += x.numel()
            sums[1] += squares.sum(dtype=torch.float64)
            sums[2] += squares.square().sum(dtype=torch.float64)
            self._largest[number] = torch.maximum(self._largest[number], x.abs().amax().double())

        return look

    def _add(self, kind: int, own: list[torch.Tensor]) -> None:
        """Add the squares of each bucket's rows to those of their groups."""
        for bucket, row in zip(self.optimizer.buckets, own, strict=True):
            if not self.optimizer.counts(bucket):
                continue
            for group, held in self._held(bucket):
                norm = torch.linalg.vector_norm(row[held], dtype=torch.float64)
                self._norms[kind, group] += norm.square()

    def _held(self, bucket: Bucket) -> Iterator[tuple[int, slice]]:
        """The group of each parameter of which this process updates some, and where in its row."""
        for part in bucket.parts:
            start, stop = max(part.start, bucket.own.start), min(part.stop, bucket.own.stop)
            if start < stop:
                first = bucket.own.start
                yield self.groups.index(group_of(part.name)), slice(start - first, stop - first)

    def _by_source(self, rows: list[Rows], sources: list[list[str]]) -> dict[str, Any]:
        """What each process of a tensor-parallel group adds is added as often as there are of them."""
        if not sources:
            return {}
        everyones: list[Any] = [None] * self.engine.place.size
        dist.all_gather_object(everyones, self._own_sources(rows, sources))
        total: dict[str, list[float]] = {}
        for one in everyones:
            for name, three in one.items():
                total[name] = [
                    a + b for a, b in zip(total.get(name, [0.0] * 3), three, strict=True)
                ]
        found, parallel = {}, self.engine.parallel
        for name, (losses, weights, sequences) in sorted(total.items()):
            if weights:
                mean = losses / weights
                entry = {"loss": mean, "perplexity": math.exp(min(mean, 700.0))}
                found[name] = entry | {"sequences": round(sequences / parallel.tp)}
        return {"sources": found}

    def _own_sources(self, rows: list[Rows], sources: list[list[str]]) -> dict[str, list[float]]:
        """Sum of losses, of weights and of sequences, where this process has the losses."""
        found: dict[str, list[float]] = {}
        parallel = self.engine.parallel
        for losses, row, names in zip(self.engine.row_losses, rows, sources, strict=False):
            weights = row.weights.sum(axis=1, dtype="float64").tolist()
            # a replica's weights are divided by the number of replicas; a ring's processes have a part of the losses each
            of_rows = (losses.double() * parallel.replicas()).tolist()
            for name, loss, weight in zip(names, of_rows, weights, strict=True):
                one = found.setdefault(name, [0.0, 0.0, 0.0])
                one[0] += loss
                one[1] += weight / parallel.cp
                one[2] += 1 / parallel.cp
        return found


def lines(record: dict[str, Any]) -> dict[str, float]:
    """A record as lines to draw: norms/layers.0.attention/gradient."""
    return {
        f"{kind}/{name}/{key}": value
        for kind, entries in record.items()
        for name, values in entries.items()
        for key, value in values.items()
        if key != "sequences"
    }


def _in_order(group: str) -> tuple[int, str]:
    """Layers by their number, behind the rest."""
    number = re.search(r"\d+", group)
    return (int(number.group()) if number else -1, group)
