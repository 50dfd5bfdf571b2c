"""What a layout implies, in one line: how the work is spread, the memory of a process and the pipeline's bubble."""

from llmhpc.models import Model
from llmhpc.train.memory import estimate
from llmhpc.train.settings import Parallel, Schedule


def bubble(parallel: Parallel, micro_batches: int) -> float:
    """The share of a step in which a stage of the pipeline has nothing to do: (p - 1) / (m + p - 1).

    For p stages and m micro-batches, of which forward and backward pass take as long in each stage; the same for 1F1B
    and all forward, all backward (Narayanan et al. 2021, arXiv:2104.04473, section 2.2, which gives it over the ideal
    time: (p - 1) / m).
    """
    return (parallel.pp - 1) / (micro_batches + parallel.pp - 1)


def line(model: Model, parallel: Parallel, schedule: Schedule, *, gpu: bool) -> str:
    """For the log. The bubble is that of the whole batch; a smaller one (batch_warmup) has a larger."""
    micro_batches = schedule.accumulation(parallel)
    memory = estimate(model, parallel, schedule, gpu=gpu)
    parts = ", ".join(f"{name} {size / 1e9:.3g}" for name, size in memory._asdict().items() if size)
    axes = ("dp", "cp", "tp", "pp") if parallel.cp > 1 else ("dp", "tp", "pp")
    cells = " x ".join(f"{axis} {getattr(parallel, axis)}" for axis in axes)
    zero = ", ZeRO-1" if parallel.zero_stage else ""
    return (
        f"layout: {cells} = {parallel.processes()}{zero}; "
        f"{micro_batches} micro-batches of {parallel.micro_batch} x {schedule.sequence_length} tokens in each replica; "
        f"memory of the fullest process about {memory.total() / 1e9:.3g} GB ({parts}); "
        f"pipeline bubble {bubble(parallel, micro_batches):.1%}"
    )
