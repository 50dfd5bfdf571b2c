"""Train a model on a tokenize step's tokens, or on text that is tokenized as it is read; every checkpoint is also exported to a Hugging Face folder.

By hand, as four processes of one machine:
    torchrun --nproc_per_node=4 -m llmhpc.step DIR
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from llmhpc.config import (
    IDENTITY_IF_SET,
    NOT_IDENTITY,
    Finding,
    Footprint,
    Stage,
    at_least,
    fraction,
)
from llmhpc.errors import ConfigError
from llmhpc.files import read_json
from llmhpc.models import Model
from llmhpc.task import Task
from llmhpc.tokens import hub
from llmhpc.train import outlook, pretrained, start
from llmhpc.train.keeping import Keeping
from llmhpc.train.settings import Packing, Parallel, PipelineOrder, Schedule, TensorMode

DOCUMENTS, START = "documents", "start"


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Architecture, layout and schedule, and how often to save and to speak."""

    roles: ClassVar[dict[str, str]] = {"tokenizer": "a step that writes tokenizer/"}
    sources: ClassVar[dict[str, str]] = {  # one of them
        "tokens": "a step that writes tokens.json",
        DOCUMENTS: "a step that writes documents/, in the order that they are read in",
    }
    seeded: ClassVar[bool] = True
    in_place: ClassVar[bool] = True

    kind: str = "train"
    model: Model = MISSING
    parallel: Parallel = field(default_factory=Parallel, metadata=NOT_IDENTITY)
    schedule: Schedule = field(default_factory=Schedule)
    heldout_fraction: float = 0.005  # of needs.documents, not read; the same as tokenize holds out
    start_from: str = ""  # a train step's directory to go on from, in place of needs.start
    start_step: int = 0  # which of its checkpoints; 0: its last
    pretrained: str = (
        ""  # whose weights training begins with: a Hugging Face folder, or NAME@COMMIT of the hub
    )
    # what that folder holds, as a hash; the launcher notes it
    pretrained_content: str = field(default="", metadata=IDENTITY_IF_SET)
    checkpoint_every: int = 100  # steps; the last step always has a checkpoint
    # of these as many of the newest stay (0: all), and those of every so many steps beside them; exports all stay
    keep_checkpoints: int = field(default=0, metadata=NOT_IDENTITY)
    keep_every: int = field(default=0, metadata=NOT_IDENTITY)
    log_every: int = field(default=1, metadata=NOT_IDENTITY)  # steps
    # between checkpoints that are kept only until the next one; 0: by the time that one takes and the next setting
    save_every_min: float = field(default=0.0, metadata=NOT_IDENTITY)
    hours_between_failures: float = field(default=24.0, metadata=NOT_IDENTITY)  # of the whole job
    # a training in which no step ends for so long is ended; more than a step and a checkpoint take; 0: never
    hang_timeout_min: float = field(default=20.0, metadata=NOT_IDENTITY)
    health_check: bool = field(default=True, metadata=NOT_IDENTITY)  # ahead of the first step
    watch_every: int = field(
        default=0, metadata=NOT_IDENTITY
    )  # steps between looks inside; 0: none
    wandb: bool = field(default=False, metadata=NOT_IDENTITY)  # metrics go to Weights & Biases, too
    # share of resources.gpu_tflops that the plan reckons with: 0.33 to 0.46 are published for 1B to 8B on H100s
    mfu: float = field(default=0.4, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        fraction(self, "heldout_fraction")
        at_least(self, "start_step", 0)
        if self.start_from:  # a job has another working directory
            self.start_from = str(Path(self.start_from).absolute())
        if self.pretrained:
            self.pretrained = hub.absolute(self.pretrained)
        for key, other in {
            "start_from": self.start_from,
            "needs.start": self.needs.get("start"),
        }.items():
            if self.pretrained and other:
                raise ConfigError(f"pretrained={self.pretrained}: either it or {key}={other}")
        at_least(self, "checkpoint_every", 1)
        at_least(self, "keep_checkpoints", 0)
        if self.keep_every < 0 or self.keep_every % self.checkpoint_every:
            raise ConfigError(
                f"keep_every={self.keep_every}: a multiple of checkpoint_every={self.checkpoint_every}"
            )
        if self.keep_every and not self.keep_checkpoints:
            raise ConfigError(
                f"keep_every={self.keep_every}: with keep_checkpoints=0 all stay; 1 or more"
            )
        at_least(self, "log_every", 1)
        at_least(self, "save_every_min", 0)
        at_least(self, "hours_between_failures", 0.01)
        at_least(self, "hang_timeout_min", 0)
        at_least(self, "watch_every", 0)
        at_least(self, "mfu", 0.01)
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, the processes of training are in parallel")
        if not isinstance(self.model, Model):
            raise ConfigError("model is not set: choose one, as in model=llama_4m")
        try:
            self.schedule = self.schedule.settled(self.model.parameters())
        except ConfigError as error:
            raise ConfigError(f"schedule.{error}") from None
        self._check_layout()

    def _check_layout(self) -> None:
        parallel = self.parallel
        self.model.check_split(tp=parallel.tp, pp=parallel.pp)
        self.schedule.accumulation(parallel)
        accumulation = self.schedule.micro_batches(1, parallel)  # the smallest batch comes first
        alternating = parallel.pp_order is PipelineOrder.one_forward_one_backward
        if alternating and accumulation < parallel.pp - 1:
            raise ConfigError(
                f"parallel.pp={parallel.pp}: with {accumulation} micro-batches per step at most "
                f"{accumulation + 1}; make parallel.micro_batch smaller"
            )
        length, cuts, parts = self.schedule.sequence_length, [], 1
        if parallel.cp > 1:  # two chunks each (llmhpc.kernels.ring)
            cuts, parts = [f"2 x parallel.cp={parallel.cp}"], 2 * parallel.cp
        if parallel.tp_mode is TensorMode.REDUCE_SCATTER:
            cuts, parts = [*cuts, f"parallel.tp={parallel.tp}"], parts * parallel.tp
        if length % parts:
            raise ConfigError(
                f"schedule.sequence_length={length}: a multiple of {' x '.join(cuts)}"
            )
        degrees = f"{parallel.dp} x {parallel.cp} x {parallel.tp} x {parallel.pp}"
        self.resources.check_processes(parallel.processes(), f"dp x cp x tp x pp = {degrees}")

    def keeping(self) -> Keeping:
        """Which checkpoints are made and stay."""
        steps = self.schedule.steps
        return Keeping(self.checkpoint_every, steps, self.keep_checkpoints, self.keep_every)

    def processes(self) -> int:
        """One for each cell of the layout."""
        return self.parallel.processes()

    def optional_roles(self) -> dict[str, str]:
        """What the tokens come from, and what was trained before."""
        start = {"start": "a train step, which this one goes on from"}
        mixed = {name: "a step that writes tokens.json" for name in self.schedule.sources()}
        return self.sources | start | mixed

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError unless there is one source, and the model's vocabulary is the tokenizer's."""
        expected = getattr(played_by["tokenizer"], "vocab_size", None)
        if expected is not None and self.model.vocab_size != expected:
            raise ConfigError(
                f"model.vocab_size={self.model.vocab_size}: {expected}, as the tokenizer step has"
            )
        if self.schedule.phases:
            self._check_mixture(played_by)
        elif len(self.sources.keys() & played_by) != 1:
            ways = " or ".join(f"needs.{role}, {what}" for role, what in self.sources.items())
            raise ConfigError(f"needs={self.needs}: either {ways}")
        if DOCUMENTS in played_by and self.schedule.packing is not Packing.stretches:
            raise ConfigError(
                f"schedule.packing={self.schedule.packing.name}: stretches, with needs.documents; or needs.tokens"
            )
        if "start" in played_by:
            self._check_start(played_by["start"])

    def _check_start(self, other: Stage) -> None:
        """Raise ConfigError unless this training can go on from that of another step of the run."""
        name = self.needs["start"]
        if not isinstance(other, Config):
            raise ConfigError(f"needs.start={name}: a train step, it is of kind {other.kind}")
        if self.start_from:
            raise ConfigError(f"start_from={self.start_from}: either it or needs.start={name}")
        step = self.start_step or other.schedule.steps
        if step > other.schedule.steps or (
            step % other.checkpoint_every and step != other.schedule.steps
        ):
            raise ConfigError(
                f"start_step={step}: a multiple of checkpoint_every={other.checkpoint_every} of {name}, or its"
                f" last, {other.schedule.steps}"
            )
        if not other.keeping().stays(step, other.schedule.steps):
            left = ", ".join(map(str, other.keeping().left()))
            raise ConfigError(
                f"start_step={step}: {name} keeps only {left} (keep_checkpoints, keep_every)"
            )
        source = start.source_of(other.needs, other.schedule, other.heldout_fraction)
        there = start.traits(other.schedule, step, source)
        state = {"step": step, "model": asdict(other.model), "data": there}
        source = start.source_of(self.needs, self.schedule, self.heldout_fraction)
        start.check(state, name, self.model, self.schedule, source)

    def _check_mixture(self, played_by: dict[str, Stage]) -> None:
        inputs = sorted(played_by.keys() - self.roles.keys() - {START})
        sources = self.schedule.sources()
        for place, phase in enumerate(self.schedule.phases):
            if unknown := sorted(phase.weights.keys() - set(inputs)):
                raise ConfigError(
                    f"schedule.phases.{place}.weights.{unknown[0]}: one of needs, {', '.join(inputs)}"
                )
        if unread := [name for name in inputs if name not in sources]:
            raise ConfigError(
                f"needs.{unread[0]}={self.needs.get(unread[0])}: one of schedule.phases, {', '.join(sources)}"
            )
        if taken := sorted({DOCUMENTS, START} & set(sources)):
            raise ConfigError(
                f"needs.{taken[0]}: a name for something else; another one in a mixture"
            )

    def settle(self) -> None:
        """Note what a folder of another model holds, if it is there."""
        if self.pretrained and (folder := Path(self.pretrained)).is_dir():
            self.pretrained_content = pretrained.content(folder)

    def foresee(
        self, inputs: dict[str, Path], out: Path, *, machine_gb: float | None
    ) -> list[Finding]:
        """Memory, tokens and the time between checkpoints."""
        run = (self.model, self.parallel, self.schedule)
        return [
            *self._foresee_start(inputs),
            *outlook.boards(wandb=self.wandb),
            *self._foresee_pretrained(inputs),
            *outlook.memory(*run, self.resources, machine_gb),
            *outlook.data(inputs, self.model, self.schedule),
            *outlook.pace(out, *run, self.checkpoint_every, self.resources.timeout_min),
        ]

    def _foresee_start(self, inputs: dict[str, Path]) -> list[Finding]:
        """Of a start that is on disk already."""
        if not self.start_from:
            return []
        try:
            folder = start.Start(Path(self.start_from), self.start_step).checkpoint()
            source = start.source_of(inputs, self.schedule, self.heldout_fraction)
            state = read_json(folder / "state.json")
            start.check(state, self.start_from, self.model, self.schedule, source)
        except ConfigError as error:
            return [Finding(str(error))]
        return []

    def _foresee_pretrained(self, inputs: dict[str, Path]) -> list[Finding]:
        """Of a model of others."""
        if not self.pretrained:
            return []
        try:
            folder = pretrained.description(self.pretrained)
            pretrained.check(folder, self.model)
            if (inputs["tokenizer"] / "manifest.json").exists():
                pretrained.check_tokenizer(folder, inputs["tokenizer"])
        except ConfigError as error:
            return [Finding(str(error))]
        return []

    def outline(self, inputs: dict[str, Path]) -> str:
        """Tokens, FLOPs and GPU-hours."""
        return outlook.work(self.model, self.schedule, self.resources, self.tokens(), self.mfu)

    def will_write(self, input_bytes: int) -> Footprint:
        """The checkpoints that stay and the one before the next, and an export of each that is made."""
        made, most = self.keeping().made(self.start_step), self.keeping().most(self.start_step)
        return outlook.footprint(self.model, self.parallel, self.schedule, made, most)

    def expected_seconds(self, out: Path) -> float | None:
        """Steps times the seconds of one in this run or one like it."""
        measured = outlook.seconds_per_step(out, self.model, self.parallel, self.schedule)
        return (self.schedule.steps - self.start_step) * measured[0] if measured else None

    def tokens(self) -> int:
        """Tokens of all steps behind ``start_step``."""
        return self.schedule.tokens_at(self.schedule.steps) - self.schedule.tokens_at(
            self.start_step
        )


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Train to the last step, from the newest whole checkpoint in ``out``, else from the start if there is one."""
    from llmhpc.processes import joined
    from llmhpc.train.trainer import Trainer
    from llmhpc.train.watch import Watching
    from llmhpc.train.wishes import Wishes

    limit_s, mtbf_s = 60 * cfg.resources.timeout_min, 3600 * cfg.hours_between_failures
    home = inputs.get("start") or (Path(cfg.start_from) if cfg.start_from else None)
    wishes = Wishes(task, 60 * cfg.save_every_min, limit_s, mtbf_s)
    with joined(cfg.processes(), cfg.resources, out / "work") as place, wishes:
        trainer = Trainer(
            model=cfg.model,
            parallel=cfg.parallel,
            schedule=cfg.schedule,
            inputs=inputs,
            out=out,
            task=task,
            place=place,
            wishes=wishes,
            start=start.Start(home, cfg.start_step) if home else None,
            keeping=cfg.keeping(),
            begin_with=pretrained.weights(cfg.pretrained) if cfg.pretrained else None,
            heldout_fraction=cfg.heldout_fraction,
            watching=Watching(
                every=cfg.watch_every,
                wandb=cfg.wandb,
                hang_timeout_s=60 * cfg.hang_timeout_min,
                health_check=cfg.health_check,
            ),
        )
        return trainer.train(log_every=cfg.log_every)
