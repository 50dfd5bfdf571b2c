"""The training loop: batches, steps, records, checkpoints and exports, from wherever the last attempt got to."""

import math
import signal
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist

from llmhpc.errors import ArtifactError, Interrupted, NotFiniteError, StageError
from llmhpc.files import write_json
from llmhpc.models import Model
from llmhpc.task import Task
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train import checkpoints, export
from llmhpc.train.data import Batches
from llmhpc.train.engine import Engine
from llmhpc.train.metrics import Metrics, read_metrics
from llmhpc.train.mixture import Mixture, open_batches
from llmhpc.train.prefetch import Prefetch
from llmhpc.train.processes import Place
from llmhpc.train.saver import Saver
from llmhpc.train.settings import Parallel, Schedule
from llmhpc.train.stream import TextStream
from llmhpc.train.wishes import Wish, Wishes

LAYOUT = "layout.json"  # of the last attempt: processes, device, kernels


class Trainer:
    """One process of a training run; ``out`` is resumed from.

    ``inputs`` has the role tokenizer, and tokens, or the sources of a mixture, or documents, of which
    ``heldout_fraction`` is left out.
    """

    def __init__(
        self,
        *,
        model: Model,
        parallel: Parallel,
        schedule: Schedule,
        inputs: dict[str, Path],
        out: Path,
        task: Task,
        place: Place,
        wishes: Wishes,
        checkpoint_every: int,
        heldout_fraction: float,
    ) -> None:
        self.model, self.parallel, self.schedule = model, parallel, schedule
        self.inputs, self.out, self.task, self.place = inputs, out, task, place
        self.wishes, self.checkpoint_every = wishes, checkpoint_every
        self.batches, self.eos_id, vocab_size = self._open(heldout_fraction)
        if vocab_size != model.vocab_size:
            of = inputs.get(self._sources()[0], inputs["tokenizer"])
            raise ArtifactError(
                f"{of} has a vocabulary of {vocab_size}, the model one of {model.vocab_size}"
            )
        if task.process != place.rank:
            raise StageError(
                f"process {task.process} of the step is process {place.rank} of training"
            )

    def _sources(self) -> list[str]:
        """The roles of the sets of tokens."""
        return self.schedule.sources() or ["tokens"]

    def _open(self, heldout_fraction: float) -> tuple[Batches | TextStream, int, int]:
        """What is read, its eos and the size of its vocabulary."""
        if "documents" in self.inputs:
            place = self.inputs["documents"], self.inputs["tokenizer"]
            text = TextStream(*place, self.schedule, heldout_fraction)
            return text, text.encoder.eos_id, text.encoder.vocab_size
        tokens = {name: TokenFiles(self.inputs[name]) for name in self._sources()}
        batches = open_batches(tokens, self.schedule, self.task.seed)
        first = tokens[self._sources()[0]]
        return batches, first.eos_id, first.vocab_size

    def train(self, *, log_every: int) -> dict[str, Any]:
        """Every step that is left. Counts are those of the whole training; process 0 has them.

        Raises:
            NotFiniteError: a loss or a gradient is not finite.
            Interrupted: a signal came; all processes have saved the same step.
        """
        place = self.place
        resumed, token = checkpoints.newest(self.out, rank=place.rank, device=place.device)
        metrics = self._open_metrics(resumed)
        if resumed < self.schedule.steps:
            engine = self._engine(resumed)
            saver = Saver(engine, self.out, token)
            engine.before_update = saver.before_update
            if place.rank == 0:
                write_json(self.out / LAYOUT, engine.describe())
            with closing(self._prefetch(engine, resumed)) as self.prefetch:
                for step in range(resumed + 1, self.schedule.steps + 1):
                    due = _is_due(step, log_every, self.schedule)
                    self._go(engine, saver, step, metrics, due=due)
            saver.wait()
            dist.barrier()  # process 0 keeps the connection open until all are here
        if metrics is None:
            return {}
        checkpoints.keep_only(self.out, self._is_kept)
        metrics.close()
        return self._counts()

    def _go(
        self, engine: Engine, saver: Saver, step: int, metrics: Metrics | None, *, due: bool
    ) -> None:
        wish = self._step(engine, step, metrics if due else None)
        if wish is Wish.STOP:
            raise StageError(f"step {step}: a newer start of this training has taken over")
        if self._is_kept(step) or wish is not Wish.GO_ON:
            self._save(saver, step, metrics)
        if wish is Wish.SAVE_AND_STOP and step < self.schedule.steps:
            saver.wait()
            self._stop(step, metrics)

    def _prefetch(self, engine: Engine, resumed: int) -> Prefetch:
        share = {"dp": self.parallel.dp, "micro_batch": self.parallel.micro_batch}
        return Prefetch(
            lambda step: list(self.batches.micro_batches(step, dp_rank=engine.dp_rank, **share)),
            self.batches.position,
            first=resumed + 1,
            last=self.schedule.steps,
        )

    def _is_kept(self, step: int) -> bool:
        """True for the checkpoints that the artifact has; others are there until the next one."""
        return step % self.checkpoint_every == 0 or step == self.schedule.steps

    def _stop(self, step: int, metrics: Metrics | None) -> None:
        if metrics is not None:
            metrics.close()
        cause = self.wishes.cause()
        raise Interrupted(
            f"step {step} of {self.schedule.steps}: saved and stopped ({cause})",
            cause,
            warned=self.wishes.signal != signal.SIGTERM,
        )

    def _engine(self, resumed: int) -> Engine:
        engine = Engine(
            self.model, self.parallel, self.schedule, seed=self.task.seed, place=self.place
        )
        if resumed:
            checkpoint = self.out / checkpoints.CHECKPOINTS / str(resumed)
            checkpoints.check_model(checkpoint, self.model)
            state = checkpoints.state_of(checkpoint)
            self.batches.go_to(state["reading"])
            engine.load(checkpoint, state["updates"])
        return engine

    def _open_metrics(self, resumed: int) -> Metrics | None:
        """Process 0: finish the exports of earlier attempts, then open the records."""
        if self.place.rank:
            return None
        export.forget_beyond(self.out, resumed)
        for step in checkpoints.whole_steps(self.out):
            if self._is_kept(step):
                self._export(step)
        return Metrics(
            self.out,
            self.task,
            steps=self.schedule.steps,
            tokens_per_step=self.schedule.tokens_per_step(),
            resumed_step=resumed,
        )

    def _step(self, engine: Engine, step: int, metrics: Metrics | None) -> Wish:
        rows = self.prefetch.rows(step)
        lr = self.schedule.learning_rate(step)
        result = engine.step(rows, lr, self.wishes.wish())
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            raise NotFiniteError(
                f"step {step}: loss {result.loss}, gradient norm {result.grad_norm}; try a smaller "
                f"schedule.lr (now {self.schedule.lr}) or a longer schedule.warmup_steps"
            )
        if metrics is not None:
            metrics.log(step=step, loss=result.loss, lr=lr, grad_norm=result.grad_norm)
        return Wish(result.wishes)

    def _save(self, saver: Saver, step: int, metrics: Metrics | None) -> None:
        if metrics is not None:
            metrics.sync()
        state = {
            "step": step,
            "tokens": step * self.schedule.tokens_per_step(),
            "updates": saver.engine.updates,
            "reading": self.prefetch.position,
            "model": asdict(self.model),
            "layout": checkpoints.layout(self.parallel),
        }
        saver.start(state, lambda seconds: self._saved(step, seconds))

    def _saved(self, step: int, seconds: float) -> None:
        """Process 0, while training goes on: the checkpoint of ``step`` is there."""
        self.task.saved()
        self.wishes.saved(seconds)
        if self._is_kept(step):
            self._export(step)
        checkpoints.keep_only(self.out, lambda other: other == step or self._is_kept(other))

    def _export(self, step: int) -> None:
        export.export(
            self.out,
            step,
            model=self.model,
            schedule=self.schedule,
            tokenizer=self.inputs["tokenizer"],
            eos_id=self.eos_id,
        )
        export.write_index(self.out, self.schedule)

    def _counts(self) -> dict[str, Any]:
        records = read_metrics(self.out)
        return {
            "steps": self.schedule.steps,
            "tokens": self.schedule.steps * self.schedule.tokens_per_step(),
            "parameters": self.model.parameters(),
            "padding": round(self.batches.padding(), 4),
            **self._epochs(),
            "first_loss": records[0]["loss"],
            "final_loss": records[-1]["loss"],
        }

    def _epochs(self) -> dict[str, Any]:
        if not isinstance(self.batches, Mixture):
            return {}
        return {"epochs": self.batches.epochs(self.schedule.steps)}


def _is_due(step: int, log_every: int, schedule: Schedule) -> bool:
    return step == 1 or step % log_every == 0 or step == schedule.steps
