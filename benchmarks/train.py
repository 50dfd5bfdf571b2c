"""Training steps against a plain PyTorch loop and against nanotron alone: same weights, same batches, one thread.

    python -m benchmarks.train [--device cuda --model llama_1b --length 2048] [--json]
    python -m benchmarks.train --scale


The plain loop is transformers' llama of the same size, autograd, clip_grad_norm_ and torch's fused AdamW: the best that
these are without other libraries. Seconds are the CPU's on a CPU, whose other core others may use, and the wall's on
CUDA. Both take their rounds in turn in one process; nanotron (its own trainer, llama and optimizer, with what
benchmarks/nanotron_alone.py says) has a process before and one behind.

--scale: tokens per second of two processes over those of one, for dp and pp, by the wall's clock; for pp beside
m / (m + p - 1), what the pipeline's bubble leaves (Narayanan et al., arXiv:2104.04473, section 2.2.1).
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmhpc.config import Resources
from llmhpc.models import hugging_face
from llmhpc.models.llama import Config as Llama
from llmhpc.planning.compose import compose
from llmhpc.processes import joined
from llmhpc.train.data import Rows
from llmhpc.train.engine import Engine
from llmhpc.train.settings import Parallel, PipelineOrder, Precision, Schedule

GOAL = 1.0
ROUNDS, STEPS = 6, 3  # steps of a round; the first round is not counted
LR = 1e-3


def main() -> None:
    """Print one line for each comparison, and JSON if asked for."""
    options = _options()
    model: Llama = compose([f"model={options.model}"]).stages["train"].model
    if options.layout:
        _worker(model, options)
        return
    result = _scale(model, options) if options.scale else _compare(model, options)
    if options.json:
        print(json.dumps(result))


def _compare(model: Llama, options: argparse.Namespace) -> dict[str, Any]:
    on_cpu = options.device == "cpu"
    schedule = _schedule(options)
    parallel = Parallel(micro_batch=options.micro_batch)
    resources = Resources(cpus=1) if on_cpu else Resources(cpus=8, gpus_per_node=1)
    clock: Callable[[], float] = time.process_time if on_cpu else _cuda_clock
    alone = _nanotron_alone(model, schedule, parallel) if on_cpu else []
    with tempfile.TemporaryDirectory() as folder, joined(1, resources, Path(folder)) as place:
        engine = Engine(model, parallel, schedule, seed=0, place=place)
        plain = PlainLoop(model, schedule, engine)
        ours, theirs = _in_turn(engine, plain, batches_to_learn(model, parallel, schedule), clock)
    result = _judge(ours, theirs, schedule, model, options)
    _say(f"{options.model}, {options.device}: {result['tokens_per_s']:,.0f} tokens/s")
    _say(
        f"over the plain loop: {result['ratio']:.3f}x ({result['least']:.2f}-{result['greatest']:.2f}), losses differ "
        f"by {result['loss_difference']:.1e}; goal {GOAL}: {'met' if result['ratio'] >= GOAL else 'NOT met'}"
    )
    if on_cpu:
        alone += _nanotron_alone(model, schedule, parallel)
        seconds = statistics.median(ours[0]) / STEPS
        result["over_nanotron"] = statistics.median(alone) / seconds
        _say(f"over nanotron alone: {result['over_nanotron']:.3f}x")
    return result


def _schedule(options: argparse.Namespace) -> Schedule:
    return Schedule(
        steps=ROUNDS * STEPS,
        warmup_steps=0,
        global_batch=options.batch,
        sequence_length=options.length,
        precision=Precision.float32 if options.device == "cpu" else Precision.bfloat16,
    )


def _nanotron_alone(model: Llama, schedule: Schedule, parallel: Parallel) -> list[float]:
    """CPU seconds of each step of nanotron's own trainer."""
    settings = {
        "model": {
            "hidden_size": model.hidden_size, "intermediate_size": model.intermediate_size,
            "num_attention_heads": model.heads, "num_key_value_heads": model.kv_heads,
            "num_hidden_layers": model.layers, "tie_word_embeddings": model.tied_embeddings,
            "vocab_size": model.vocab_size,
        },
        "length": schedule.sequence_length, "batch": schedule.global_batch, "micro_batch": parallel.micro_batch,
        "steps": 2 * STEPS,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "benchmarks.nanotron_alone", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("seconds"))
    return json.loads(line.partition(" ")[2])


LAYOUTS = {"dp2": {"dp": 2}, "pp2": {"pp": 2}, "pp2 afab": {"pp": 2, "pp_order": "afab"}}


def _scale(model: Llama, options: argparse.Namespace) -> dict[str, Any]:
    schedule = _schedule(options)
    microbatches_to_learn = options.batch // options.micro_batch
    result: dict[str, Any] = {}
    for name, layout in LAYOUTS.items():
        one, two = [], []
        for _ in range(2):
            one.append(_throughput(options, {}))
            two.append(_throughput(options, layout))
        gain = statistics.median(two) / statistics.median(one)
        ideal = 2 * microbatches_to_learn / (microbatches_to_learn + 1) if "pp" in layout else 2.0
        result[name] = {"gain": gain, "ideal": ideal, "efficiency": gain / ideal}
        _say(
            f"{name}: {gain:.2f}x one process, {gain / ideal:.0%} of the {ideal:.2f} that {microbatches_to_learn} "
            f"micro-batches of {options.micro_batch} x {schedule.sequence_length} tokens allow"
        )
    return result


def _throughput(options: argparse.Namespace, layout: dict[str, Any]) -> float:
    """Tokens per second of a layout's processes."""
    count = math.prod(layout.get(key, 1) for key in ("dp", "pp"))
    start = [sys.executable]
    if count > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [
        *start, "-m", "benchmarks.train", f"--model={options.model}", f"--batch={options.batch}",
        f"--micro-batch={options.micro_batch}", f"--length={options.length}", "--layout", json.dumps(layout),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("tokens/s"))
    return float(line.split()[1])


def _worker(model: Llama, options: argparse.Namespace) -> None:
    """One process of a layout: process 0 says its tokens per second."""
    layout = json.loads(options.layout)
    order = PipelineOrder(layout.pop("pp_order", "1f1b"))
    parallel = Parallel(micro_batch=options.micro_batch, pp_order=order, **layout)
    schedule = _schedule(options)
    with (
        tempfile.TemporaryDirectory() as folder,
        joined(parallel.processes(), Resources(cpus=1), Path(folder)) as place,
    ):
        engine = Engine(model, parallel, schedule, seed=0, place=place)
        steps = [
            rows[engine.dp_rank :: parallel.dp]
            for rows in batches_to_learn(model, parallel, schedule)
        ]
        engine.step(steps[0], LR)
        begun = time.perf_counter()
        for rows in steps[1:]:
            engine.step(rows, LR)
        taken = time.perf_counter() - begun
        if place.rank == 0:
            print("tokens/s", (len(steps) - 1) * schedule.tokens_at(1) / taken)


def _say(line: str) -> None:
    print(line, flush=True)


class PlainLoop:
    """Transformers' llama with the engine's weights, and what one would write around it."""

    def __init__(self, model: Llama, schedule: Schedule, engine: Engine) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        names = hugging_face(model.kind)
        dtype = schedule.precision.name
        length = schedule.sequence_length
        config = AutoConfig.for_model(**names.config(model, sequence_length=length, dtype=dtype))
        ours = {
            piece.key.removeprefix("weight/"): piece.row.view(piece.cut.local)
            for piece in engine.optimizer.pieces()
            if piece.key.startswith("weight/")
        }
        self.network = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        theirs = {
            part.theirs: ours[part.ours][part.start : part.stop] for part in names.rows(model)
        }
        theirs = {
            part.theirs: ours[part.ours][part.start : part.stop] for part in names.rows(model)
        }
        missing = self.network.load_state_dict(theirs, strict=False)
        assert not missing.unexpected_keys, missing
        self.network.to(engine.place.device).train()
        named = list(self.network.named_parameters())
        decays = [p for name, p in named if p.dim() > 1 and "embed_tokens" not in name]
        others = [p for name, p in named if p.dim() == 1 or "embed_tokens" in name]
        self.adam = torch.optim.AdamW(
            [
                {"params": decays, "weight_decay": schedule.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=LR,
            betas=(schedule.beta1, schedule.beta2),
            eps=schedule.epsilon,
            fused=True,
        )
        self.clip_norm, self.device = schedule.clip_norm, engine.place.device

    def step(self, rows: list[Rows]) -> float:
        """One step; its loss."""
        total = torch.zeros((), device=self.device)
        for row in rows:
            tokens = torch.from_numpy(row.tokens).to(self.device)
            logits = self.network(input_ids=tokens[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), tokens[:, 1:].flatten()
            )
            (loss / len(rows)).backward()
            total += loss.detach() / len(rows)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.adam.step()
        self.adam.zero_grad()
        return total.item()


Times = list[float]
Losses = list[float]


def _in_turn(
    engine: Engine, plain: PlainLoop, batches: list[list[Rows]], clock: Callable[[], float]
) -> tuple[tuple[Times, Losses], tuple[Times, Losses]]:
    """Seconds of each round and losses of each step, of both."""
    sides: list[Callable[[list[Rows]], float]] = [
        lambda rows: engine.step(rows, LR).loss,
        plain.step,
    ]
    times: list[Times] = [[], []]
    losses: list[Losses] = [[], []]
    for number in range(ROUNDS):
        part = batches[number * STEPS : (number + 1) * STEPS]
        for side in (0, 1) if number % 2 else (1, 0):
            begun = clock()
            losses[side] += [sides[side](rows) for rows in part]
            times[side].append(clock() - begun)
    return (times[0][1:], losses[0]), (times[1][1:], losses[1])


def _judge(
    ours: tuple[Times, Losses],
    theirs: tuple[Times, Losses],
    schedule: Schedule,
    model: Llama,
    options: argparse.Namespace,
) -> dict[str, Any]:
    ratios = [b / a for a, b in zip(ours[0], theirs[0], strict=True)]
    return {
        "model": asdict(model) | {"parameters": model.parameters()},
        "device": options.device,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "greatest": max(ratios),
        "tokens_per_s": STEPS * schedule.tokens_at(1) / statistics.median(ours[0]),
        "loss_difference": max(abs(a - b) for a, b in zip(ours[1], theirs[1], strict=True)),
        "first_loss": ours[1][0],
        "last_loss": ours[1][-1],
    }


def batches_to_learn(model: Llama, parallel: Parallel, schedule: Schedule) -> list[list[Rows]]:
    """Numbers that follow from one another nearly always, so that there is something to learn."""
    random = np.random.default_rng(0)
    follow = random.permutation(model.vocab_size)
    shape = (schedule.steps, schedule.global_batch)
    tokens = np.empty((*shape, schedule.sequence_length + 1), dtype=np.int64)
    tokens[..., 0] = random.integers(0, model.vocab_size, shape)
    for at in range(1, schedule.sequence_length + 1):
        noise = random.integers(0, model.vocab_size, shape)
        tokens[..., at] = np.where(random.random(shape) < 0.2, noise, follow[tokens[..., at - 1]])
    weights = np.ones((parallel.micro_batch, schedule.sequence_length), dtype=np.float32)
    return [
        [Rows(part, weights) for part in step.reshape(-1, parallel.micro_batch, step.shape[-1])]
        for step in tokens
    ]


def _cuda_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="llama_4m")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=8, help="sequences of a step")
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--scale", action="store_true", help="two processes against one")
    parser.add_argument("--layout", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
