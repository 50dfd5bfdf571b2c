"""The memory that training takes on each process, from its settings alone."""

from typing import NamedTuple

from llmhpc.models import Model, StageParts
from llmhpc.train.settings import Parallel, PipelineOrder, Precision, Schedule, TensorMode

ADAM_BYTES = 8  # per parameter: two moments in float32
OF_A_PROCESS = 0.4e9  # bytes beside tensors, on a CPU: 0.36 to 0.52e9 measured with torch 2.13


class Memory(NamedTuple):
    """Bytes of one process at the fullest moment of a step."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    checkpoint: float  # what is copied to be saved in the background; of a GPU's process it is in the node's memory

    def total(self) -> float:
        """Without what Python, torch and the device's driver take for themselves."""
        return sum(self)


def estimate(model: Model, parallel: Parallel, schedule: Schedule, *, gpu: bool) -> Memory:
    """The memory of a process of the fullest pipeline stage."""
    stages = model.stages(tp=parallel.tp, pp=parallel.pp)
    each = [
        _of_stage(i, stage, model, parallel, schedule, gpu=gpu) for i, stage in enumerate(stages)
    ]
    return max(each, key=Memory.total)


def _of_stage(
    place: int,
    stage: StageParts,
    model: Model,
    parallel: Parallel,
    schedule: Schedule,
    *,
    gpu: bool,
) -> Memory:
    """Per parameter, after Rajbhandari et al. (arXiv:1910.02054, section 3.1) and llmhpc.train.optimizer.

    float32: 4 bytes of weight, 4 of gradient, 8 of Adam. bfloat16: 2 of weight, 4 of the sum of gradients, and 4 of
    float32 weight and 8 of Adam. ZeRO-1 cuts Adam and the float32 weights over dp x cp, not the gradients.
    """
    half = schedule.precision is Precision.bfloat16
    width = 2 if half else 4
    weights = width * stage.parameters
    shares = parallel.replicas() if parallel.zero_stage else 1
    optimizer = stage.parameters * (ADAM_BYTES + 4 * half) / shares
    flying = _in_flight(place, parallel, schedule)
    return Memory(
        weights=weights,
        gradients=4 * stage.parameters,
        optimizer=optimizer,
        activations=_activations(stage, flying, model, parallel, schedule, gpu=gpu),
        checkpoint=0 if gpu else weights + optimizer,
    )


def _in_flight(place: int, parallel: Parallel, schedule: Schedule) -> int:
    """Micro-batches whose activations a stage holds at once (Narayanan et al., arXiv:2104.04473, section 2.2).

    1F1B: the stages from this one to the last; all forward, all backward: every micro-batch of the step.
    """
    micro_batches = schedule.accumulation(parallel)
    if parallel.pp_order is PipelineOrder.all_forward_all_backward:
        return micro_batches
    return min(parallel.pp - place, micro_batches)


def _activations(
    stage: StageParts,
    flying: int,
    model: Model,
    parallel: Parallel,
    schedule: Schedule,
    *,
    gpu: bool,
) -> float:
    width = 2 if schedule.precision is Precision.bfloat16 else 4
    length = schedule.sequence_length // parallel.cp
    part = model.activations(
        parallel.micro_batch * length,
        tp=parallel.tp,
        sequence_cut=parallel.tp_mode is TensorMode.REDUCE_SCATTER,
        width=width,
        fused=gpu,
    )
    in_layer = part.layer_backward
    layer = part.layer
    if parallel.recompute:
        layer = part.layer_input
        in_layer += part.layer - part.layer_input
    head = part.head if stage.head else 0
    bias = width * parallel.micro_batch * length**2 if schedule.document_mask else 0
    if parallel.cp > 1:  # made anew for each block of a ring
        in_layer += bias
    else:  # Documents.bias_B1ST; flash-attn goes without it
        head += bias
    return flying * (stage.layers * layer + head) + max(in_layer, part.loss if stage.head else 0)
