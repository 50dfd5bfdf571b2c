"""What a training will meet: known from its settings and from what is on disk already."""

import importlib.util
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmhpc.config import Finding, Footprint, Resources
from llmhpc.files import read_json
from llmhpc.models import Model
from llmhpc.train.memory import ADAM_BYTES, OF_A_PROCESS, estimate
from llmhpc.train.settings import Parallel, Precision, Schedule

EPOCHS = 4  # as many are nearly as good as new data (Muennighoff et al. 2023, arXiv:2305.16264)
NO_WANDB = "wandb=true: the package wandb is not installed; pip install wandb, or wandb=false"
SPARE = 0.1  # of the time limit, for starting and saving
FILES_OF_A_CHECKPOINT = 2  # beside those of the processes
FILES_OF_AN_EXPORT = 6


def memory(
    model: Model,
    parallel: Parallel,
    schedule: Schedule,
    resources: Resources,
    machine_gb: float | None,
) -> Iterator[Finding]:
    """Whether a process fits its GPU, or the processes of a node fit its memory."""
    on_gpu = resources.gpus_per_node > 0
    need = estimate(model, parallel, schedule, gpu=on_gpu)
    each = need.total() / 1e9 if on_gpu else (need.total() + OF_A_PROCESS) / 1e9
    processes = 1 if on_gpu else parallel.processes() // resources.nodes
    ways, where = _ways_to_save(parallel), ""
    if on_gpu:
        room, key = resources.gpu_mem_gb, f"resources.gpu_mem_gb={resources.gpu_mem_gb:g}"
    elif machine_gb is None:
        room, key = resources.mem_gb, f"resources.mem_gb={resources.mem_gb:g}"
        ways.insert(0, f"{math.ceil(processes * each)}")
    else:
        room, key = machine_gb, f"parallel.micro_batch={parallel.micro_batch}"
        where = f", this machine has {_short(machine_gb)}"
    if processes * each > room:
        parts = ", ".join(
            f"{part} {_short(size / 1e9)}" for part, size in need._asdict().items() if size
        )
        whose = "a process" if processes == 1 else f"each of {processes} processes"
        about = f"{whose} takes about {_short(each)} GB ({parts}){where}"
        yield Finding(f"{key}: {about}; {', '.join(ways[:-1])} or {ways[-1]}", estimate=True)


def boards(*, wandb: bool) -> Iterator[Finding]:
    """Whether Weights & Biases can be told."""
    if wandb and importlib.util.find_spec("wandb") is None:
        yield Finding(NO_WANDB)


def _ways_to_save(parallel: Parallel) -> list[str]:
    ways = [] if parallel.recompute else ["parallel.recompute=true"]
    if parallel.replicas() > 1 and not parallel.zero_stage:
        ways.append("parallel.zero_stage=1")
    return [*ways, "a smaller parallel.micro_batch", "more parallel.cp, tp or pp"]


def data(inputs: dict[str, Path], model: Model, schedule: Schedule) -> Iterator[Finding]:
    """Whether sealed tokens fill a step, are within the model's vocabulary, and are not read too often."""
    if schedule.phases:
        from llmhpc.train.shares import Shares

        shares = Shares(schedule, seed=0)
        for name, drawn in shares.before(schedule.sequences_before(schedule.steps + 1)).items():
            yield from _source(inputs[name], model, schedule, drawn, least=1)
    elif "tokens" in inputs:
        drawn, least = schedule.sequences_before(schedule.steps + 1), schedule.global_batch
        yield from _source(inputs["tokens"], model, schedule, drawn, least=least)


def _source(
    tokens: Path, model: Model, schedule: Schedule, drawn: int, *, least: int
) -> Iterator[Finding]:
    """Of one set of tokens, which has to fill ``least`` sequences, and of which so many are ``drawn``."""
    if not (tokens / "manifest.json").exists() or not (index := read_json(tokens / "tokens.json")):
        return
    if index["vocab_size"] > model.vocab_size:  # an imported model may have rows to spare
        yield Finding(
            f"model.vocab_size={model.vocab_size}: {index['vocab_size']} or more, as {tokens.name} has"
        )
    there, length = index["train"]["tokens"], schedule.sequence_length
    sequences, wanted = max(0, there - 1) // length, drawn * length
    if not sequences and least == 1:
        yield Finding(
            f"schedule.sequence_length={length}: at most {there - 1}, {tokens.name} has {there:,} tokens"
        )
    elif sequences < least:
        yield Finding(
            f"schedule.global_batch={schedule.global_batch}: at most {sequences}, {tokens.name} has"
            f" {there:,} tokens and a sequence {length}"
        )
    elif wanted > EPOCHS * there:
        most = schedule.steps_of(schedule.tokens_at(schedule.steps) * EPOCHS * there // wanted)
        key, limit = _budget(model, schedule, most)
        yield Finding(
            f"{key}: {wanted / there:.1f} times through the {there:,} tokens of"
            f" {tokens.name}; at most {limit}, or more data: repeats beyond {EPOCHS} add little",
            estimate=True,
        )


def _budget(model: Model, schedule: Schedule, most: int) -> tuple[str, str]:
    """The setting that says how long training is, and its value for ``most`` steps."""
    tokens = schedule.tokens_at(most)
    if schedule.tokens:
        return f"schedule.tokens={schedule.tokens:g}", f"{tokens:,}"
    if each := schedule.tokens_per_parameter:
        ratio = tokens / model.parameters()
        unit = 10 ** (math.floor(math.log10(ratio)) - 2)  # three digits, none of them rounded up
        limit = f"{math.floor(ratio / unit) * unit:.3g}"
        return f"schedule.tokens_per_parameter={each:g}", limit
    return f"schedule.steps={schedule.steps}", f"{most}"


def work(model: Model, schedule: Schedule, resources: Resources, tokens: int, mfu: float) -> str:
    """What training on ``tokens`` takes, in numbers; GPU-hours if ``mfu`` of what a GPU can do is reached."""
    flops = tokens * model.flops_per_token(schedule.sequence_length)
    each = schedule.tokens_at(schedule.steps) / model.parameters()
    said = f"{tokens:,} tokens, {_short(each)} per parameter, {flops:.2g} FLOPs"
    if not (gpus := resources.gpus_per_node * resources.nodes):
        return said
    hours = flops / (resources.gpu_tflops * 1e12 * mfu) / 3600
    return (
        f"{said}, about {_short(hours)} GPU-hours ({_short(hours / gpus)} hours on {gpus}) at {mfu:.0%} of"
        f" {resources.gpu_tflops:g} TFLOP/s"
    )


def pace(
    out: Path,
    model: Model,
    parallel: Parallel,
    schedule: Schedule,
    checkpoint_every: int,
    timeout_min: int,
) -> Iterator[Finding]:
    """Whether a job reaches its first checkpoint, by the speed of an earlier run like this one."""
    if (measured := seconds_per_step(out, model, parallel, schedule)) is None:
        return
    seconds, source = measured
    limit = timeout_min * 60 * (1 - SPARE)
    steps = min(checkpoint_every, schedule.steps)
    if steps * seconds > limit:
        yield Finding(
            f"checkpoint_every={checkpoint_every}: {steps * seconds / 60:.1f} min at {seconds:.3g} s a step"
            f" ({source}), resources.timeout_min={timeout_min}; at most {int(limit / seconds)}",
            estimate=True,
        )


def seconds_per_step(
    out: Path, model: Model, parallel: Parallel, schedule: Schedule
) -> tuple[float, str] | None:
    """Mean time of a step and the directory it was measured in: this one, or that of the same work."""
    stem = out.name.rpartition("-")[0]
    for home in [out, *sorted(out.parent.glob(f"{stem}-*"))]:
        order, log = read_json(home / "step.json"), home / "metrics.jsonl"
        if order and log.exists() and _same_work(order["config"], model, parallel, schedule):
            records = [
                json.loads(line)
                for line in log.read_text().splitlines(keepends=True)
                if "\n" in line
            ]
            if len(records) > 1 and (steps := records[-1]["step"] - records[0]["step"]) > 0:
                return (records[-1]["seconds"] - records[0]["seconds"]) / steps, home.name
    return None


def _same_work(
    config: dict[str, Any], model: Model, parallel: Parallel, schedule: Schedule
) -> bool:
    """Whether a step took as long in a run with ``config``; where it ran is not looked at."""
    batch, layout = (
        ("global_batch", "batch_warmup", "sequence_length"),
        ("dp", "cp", "tp", "pp", "micro_batch", "recompute", "compile"),
    )
    return (
        config.get("model") == asdict(model)
        and all(config["schedule"].get(key) == getattr(schedule, key) for key in batch)
        and all(config["parallel"].get(key) == getattr(parallel, key) for key in layout)
    )


def footprint(
    model: Model, parallel: Parallel, schedule: Schedule, exports: int, checkpoints: int
) -> Footprint:
    """Checkpoints with float32 Adam, and weights twice where they are not float32; exports."""
    half = schedule.precision is Precision.bfloat16
    checkpoint = ADAM_BYTES + (2 + 4 if half else 4)
    files = parallel.tp * parallel.pp * (1 + (parallel.replicas() if parallel.zero_stage else 1))
    size = checkpoints * checkpoint + exports * (2 if half else 4)
    return Footprint(
        model.parameters() * size,
        checkpoints * (files + FILES_OF_A_CHECKPOINT) + exports * FILES_OF_AN_EXPORT,
    )


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"
