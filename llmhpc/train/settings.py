"""Settings of training that are not the network's: how it is spread, and what each step does."""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from enum import Enum

from llmhpc.config import at_least, fraction
from llmhpc.errors import ConfigError
from llmhpc.train.bad_steps import BadSteps

WEIGHTS_SUM = 1e-5  # so far from 1 may it be: weights are taken to the millionth


class TensorMode(Enum):
    """How tensor-parallel layers meet: whole activations on every process, or cut along the sequence."""

    ALL_REDUCE = "ALL_REDUCE"
    REDUCE_SCATTER = "REDUCE_SCATTER"


class PipelineOrder(Enum):
    """Order of forward and backward passes in a pipeline (arXiv:2104.04473)."""

    one_forward_one_backward = "1f1b"
    all_forward_all_backward = "afab"


class Decay(Enum):
    """Shape of the learning rate after the warm-up; wsd stays flat, then falls linearly (arXiv:2404.06395).

    constant is wsd without its fall: a training that others go on from, flat or with a fall of their own.
    """

    cosine = "cosine"
    linear = "linear"
    wsd = "wsd"
    constant = "constant"


class Packing(Enum):
    """What a sequence holds: the next stretch of the tokens, or whole documents and padding (arXiv:2404.10830).

    Attention sees the whole sequence either way, unless there is ``Schedule.document_mask``.
    """

    stretches = "stretches"
    documents = "documents"


class Precision(Enum):
    """Number format of weights and activations; bfloat16 keeps float32 weights and gradients beside it."""

    float32 = "float32"
    bfloat16 = "bfloat16"


@dataclass(kw_only=True, slots=True)
class Parallel:
    """Layout: where the work is done. It does not change what is learnt."""

    dp: int = 1
    cp: int = 1  # parts of each sequence (arXiv:2310.01889)
    tp: int = 1
    pp: int = 1
    tp_mode: TensorMode = TensorMode.ALL_REDUCE
    pp_order: PipelineOrder = PipelineOrder.one_forward_one_backward
    zero_stage: int = 0  # 1: optimizer states are cut over dp x cp (arXiv:1910.02054)
    micro_batch: int = 4  # sequences per forward pass of a process, or of those that share them
    recompute: bool = False  # less memory for activations, one more forward pass
    compile: bool = (
        False  # torch.compile the layers: fewer kernels, a minute or more before the first step
    )

    def __post_init__(self) -> None:
        for name in ("dp", "cp", "tp", "pp", "micro_batch"):
            at_least(self, name, 1)
        if self.zero_stage not in (0, 1):
            raise ConfigError(f"zero_stage={self.zero_stage}: 0 or 1")

    def processes(self) -> int:
        """Processes over all nodes."""
        return self.dp * self.cp * self.tp * self.pp

    def replicas(self) -> int:
        """Copies of the weights: each process of a cp group has one, and learns from its part of a sequence."""
        return self.dp * self.cp


@dataclass(kw_only=True, slots=True)
class MixturePhase:
    """The shares of the sources up to a step. A source that is not named is not read."""

    until_step: int = 0  # the phase's last step; 0: the training's
    weights: dict[str, float] = field(
        default_factory=dict
    )  # name in needs -> share of the sequences


@dataclass(kw_only=True, slots=True)
class Schedule:
    """What each optimizer step reads and how far it goes (AdamW, arXiv:1711.05101)."""

    steps: int = 200
    # in place of steps: as many as read so many tokens, or so many for each parameter (20: Chinchilla, arXiv:2203.15556)
    tokens: float = 0.0
    tokens_per_parameter: float = 0.0
    global_batch: int = 16  # sequences per step, over all processes
    # [step, sequences]: a smaller batch up to and with that step, in order; then global_batch (GPT-3, arXiv:2005.14165)
    batch_warmup: list[list[int]] = field(default_factory=list)
    sequence_length: int = 256
    packing: Packing = Packing.stretches
    document_mask: bool = False  # attention and positions begin anew with each document
    phases: list[MixturePhase] = field(default_factory=list)  # none: needs.tokens alone is read
    lr: float = 3e-3
    min_lr: float = 3e-4
    warmup_steps: int = 20
    decay: Decay = Decay.cosine
    decay_steps: int = 0  # of wsd: length of the fall at the end
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip_norm: float = 1.0  # largest global gradient norm; 0: no clipping
    z_loss: float = 0.0  # weight of log^2 Z beside the loss; 1e-4 in PaLM (arXiv:2204.02311)
    precision: Precision = Precision.float32
    bad_steps: BadSteps = field(default_factory=BadSteps)

    def __post_init__(self) -> None:
        for name in ("steps", "global_batch", "sequence_length"):
            at_least(self, name, 1)
        for name in ("lr", "min_lr", "warmup_steps", "decay_steps", "weight_decay", "clip_norm"):
            at_least(self, name, 0)
        at_least(self, "z_loss", 0)
        at_least(self, "tokens", 0)
        at_least(self, "tokens_per_parameter", 0)
        fraction(self, "beta1", "beta2")
        if self.min_lr > self.lr:
            raise ConfigError(f"min_lr={self.min_lr}: at most lr={self.lr}")
        if (self.decay is Decay.wsd) != (self.decay_steps > 0):
            raise ConfigError(
                f"decay_steps={self.decay_steps}: 1 or more with decay=wsd, 0 with the others"
            )
        if self.tokens and self.tokens_per_parameter:
            raise ConfigError(
                f"tokens={self.tokens:g}: either it or tokens_per_parameter={self.tokens_per_parameter:g}"
            )
        self._check_batch_warmup()
        if self.tokens:
            self.steps = self.steps_to(self.tokens)
        if not self.tokens_per_parameter:
            self._check_steps()

    def settled(self, parameters: int) -> "Schedule":
        """The same with the steps that ``tokens_per_parameter`` asks for, if it is set, of a model of so many."""
        if not self.tokens_per_parameter:
            return self
        settled = replace(self, steps=self.steps_to(self.tokens_per_parameter * parameters))
        settled._check_steps()
        return settled

    def _check_steps(self) -> None:
        """Raise ConfigError unless everything is over before the steps are."""
        if self.warmup_steps + self.decay_steps > self.steps:
            raise ConfigError(
                f"warmup_steps={self.warmup_steps}: with decay_steps={self.decay_steps} "
                f"at most steps={self.steps}"
            )
        if self.batch_warmup and self.batch_warmup[-1][0] >= self.steps:
            raise ConfigError(f"batch_warmup={self.batch_warmup}: {self._right_batch_warmup()}")
        _check_phases(self.phases, self.steps)

    def sources(self) -> list[str]:
        """The names of the sources of a mixture."""
        return sorted({name for phase in self.phases for name in phase.weights})

    def _check_batch_warmup(self) -> None:
        before = [0, 0]
        for stage in self.batch_warmup:
            rising = len(stage) == 2 and all(a < b for a, b in zip(before, stage, strict=True))
            if not rising or stage[1] >= self.global_batch:
                raise ConfigError(f"batch_warmup={self.batch_warmup}: {self._right_batch_warmup()}")
            before = stage

    def _right_batch_warmup(self) -> str:
        return f"pairs of [step, sequences], both rising, below steps={self.steps} and global_batch={self.global_batch}"

    def batch(self, step: int) -> int:
        """Sequences of optimizer step ``step``, counted from 1."""
        return next((size for last, size in self.batch_warmup if step <= last), self.global_batch)

    def sequences_before(self, step: int) -> int:
        """Sequences of all steps before ``step``: where in the data it begins, if none was left out."""
        begun, total = 0, 0
        for last, size in self.batch_warmup:
            total += size * max(0, min(last, step - 1) - begun)
            begun = last
        return total + self.global_batch * max(0, step - 1 - begun)

    def tokens_at(self, step: int) -> int:
        """Tokens of the steps up to and with ``step``."""
        return self.sequences_before(step + 1) * self.sequence_length

    def steps_to(self, tokens: float) -> int:
        """How many steps it takes to read ``tokens``."""
        smallest = self.batch_warmup[0][1] if self.batch_warmup else self.global_batch
        most = math.ceil(tokens / (smallest * self.sequence_length))
        return max(1, bisect_left(range(most), tokens, key=self.tokens_at))

    def steps_of(self, tokens: int) -> int:
        """How many steps read at most ``tokens``."""
        return bisect_right(range(1, self.steps + 1), tokens, key=self.tokens_at)

    def micro_batches(self, step: int, parallel: Parallel) -> int:
        """Micro-batches of one process in optimizer step ``step``."""
        return self.batch(step) // (parallel.dp * parallel.micro_batch)

    def accumulation(self, parallel: Parallel) -> int:
        """Micro-batches of one process per step of global_batch; raises ConfigError if any step has no whole number."""
        sequences = parallel.dp * parallel.micro_batch
        wrong = ""
        if any(size % sequences for _, size in self.batch_warmup):
            wrong = f"schedule.batch_warmup={self.batch_warmup}: each batch"
        if self.global_batch % sequences:
            wrong = f"schedule.global_batch={self.global_batch}:"
        if wrong:
            raise ConfigError(
                f"{wrong} a multiple of parallel.dp={parallel.dp}"
                f" x parallel.micro_batch={parallel.micro_batch}"
            )
        return self.global_batch // sequences

    def learning_rate(self, step: int) -> float:
        """Rate of optimizer step ``step``, counted from 1: a function of the step alone."""
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        if self.decay is Decay.constant:
            return self.lr
        first = self.steps - self.decay_steps if self.decay is Decay.wsd else self.warmup_steps
        done = max(0.0, (step - first) / max(1, self.steps - first))
        if self.decay is Decay.cosine:
            left = (1 + math.cos(math.pi * done)) / 2
        else:
            left = 1 - done
        return self.min_lr + (self.lr - self.min_lr) * left


def _check_phases(phases: list[MixturePhase], steps: int) -> None:
    """Raise ConfigError unless phases follow each other to the last step, each with shares of one whole."""
    before = 0
    for place, phase in enumerate(phases):
        key = f"phases.{place}"
        if not phase.weights:
            raise ConfigError(f"{key}.weights is not set: each source's share, as in {{web: 1}}")
        for name, weight in phase.weights.items():
            if weight < 0:
                raise ConfigError(f"{key}.weights.{name}={weight:g}: 0 or more")
        if abs((total := sum(phase.weights.values())) - 1) > WEIGHTS_SUM:
            raise ConfigError(f"{key}.weights: their sum is {total:g}, 1 is right")
        is_last = place == len(phases) - 1
        if is_last and 0 < phase.until_step < steps:
            raise ConfigError(
                f"{key}.until_step={phase.until_step}: 0, the last phase has the rest"
            )
        if not is_last and not before < phase.until_step < steps:
            raise ConfigError(
                f"{key}.until_step={phase.until_step}: above {before} and below steps={steps}"
            )
        before = phase.until_step
