"""The training loop: batches, steps, records, checkpoints and exports, from wherever the last attempt got to."""

import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.distributed as dist

from llmhpc.errors import ArtifactError, Interrupted, NotFiniteError, StageError
from llmhpc.files import read_json, write_json
from llmhpc.models import Model
from llmhpc.processes import Place
from llmhpc.task import Task
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train import bad_steps, checkpoints, export, health, layout, pretrained, start
from llmhpc.train.bad_steps import BadStep, Watch
from llmhpc.train.data import Batches
from llmhpc.train.engine import Engine, StepResult
from llmhpc.train.keeping import Keeping
from llmhpc.train.metrics import Metrics, read_metrics
from llmhpc.train.mixture import Mixture, open_batches
from llmhpc.train.prefetch import Prefetch
from llmhpc.train.saver import Saver
from llmhpc.train.settings import Parallel, Schedule
from llmhpc.train.speed import memory_peak, speed_of
from llmhpc.train.start import Start, source_of
from llmhpc.train.stream import TextStream
from llmhpc.train.waits import Waits
from llmhpc.train.watch import Gauges, Watching, lines
from llmhpc.train.watchdog import Watchdog
from llmhpc.train.wishes import Wish, Wishes

LAYOUT = "layout.json"  # of the last attempt: processes, device, kernels


class Trainer:
    """One process of a training run; ``out`` is resumed from.

    ``inputs`` has the role tokenizer, and tokens, or the sources of a mixture, or documents, of which
    ``heldout_fraction`` is left out. Without a checkpoint in ``out`` training goes on from that of ``start``, or begins
    with the weights in the folder ``begin_with``.
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
        start: Start | None,
        keeping: Keeping,
        begin_with: Path | None,
        heldout_fraction: float,
        watching: Watching,
    ) -> None:
        self.model, self.parallel, self.schedule = model, parallel, schedule
        self.inputs, self.out, self.task, self.place = inputs, out, task, place
        self.wishes, self.start, self.keeping = wishes, start, keeping
        self.begin_with = begin_with
        self.watching, self.waits = watching, Waits()
        self.speed = speed_of(model, schedule, place)
        self.source = source_of(inputs, schedule, heldout_fraction)
        self.began = 0  # the step of the training that this one goes on from
        self.batches, self.eos_id, vocab_size = self._open(heldout_fraction)
        if vocab_size > model.vocab_size:
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
            ConfigError: this training cannot go on from the start.
            NotFiniteError: a loss or a gradient is not finite, or there were more bad steps than may be.
            Interrupted: a signal came; all processes have saved the same step.
        """
        place = self.place
        resumed, token = checkpoints.newest(self.out, rank=place.rank, device=place.device)
        folder = self.out / checkpoints.CHECKPOINTS / str(resumed) if resumed else None
        if folder is not None:
            self.began = checkpoints.state_of(folder).get("began", 0)
        elif self.begin_with is not None:
            pretrained.check(self.begin_with, self.model)
            pretrained.check_tokenizer(self.begin_with, self.inputs["tokenizer"])
        elif self.start is not None:
            folder = self._checked(self.start)
            resumed = self.began = int(folder.name)
        self.watch = Watch(self.schedule.bad_steps, self._bad_steps(), {}, 0)
        self.metrics = self._open_metrics(resumed)
        if resumed < self.schedule.steps:
            self._set_up(token)
            with self.watchdog:
                self._loop(self._go_to(folder), log_every)
            self.saver.wait()
            dist.barrier()  # process 0 keeps the connection open until all are here
        if self.metrics is None:
            return {}
        last = self.schedule.steps
        checkpoints.keep_only(self.out, lambda step: self.keeping.stays(step, last))
        self.metrics.close()
        return self._counts()

    def _set_up(self, token: str) -> None:
        self.engine = Engine(
            self.model, self.parallel, self.schedule, seed=self.task.seed, place=self.place
        )
        self.saver = Saver(self.engine, self.out, token)
        self.engine.before_update = self._before_update
        self.gauges = Gauges(self.engine) if self.watching.every else None
        hangs = self.task.home / "work" / f"hang-{token}"
        self.watchdog = Watchdog(self.watching.hang_timeout_s, hangs, self.place, self.task.finish)
        if self.place.rank == 0:
            on_gpu = self.place.device.type == "cuda"
            said = layout.line(self.model, self.parallel, self.schedule, gpu=on_gpu)
            sys.stderr.write(f"{said}\n")
            write_json(self.out / LAYOUT, self.engine.describe() | {"line": said})
        if self.watching.health_check and self.place.size > 1:
            health.check(self.place, self.out)

    def _before_update(self) -> None:
        self.saver.before_update()
        if self.gauges is not None:
            self.gauges.before_update()

    def _loop(self, step: int, log_every: int) -> None:
        """The steps behind ``step``."""
        self.prefetch = self._read_behind(step)
        try:
            while step < self.schedule.steps:
                step = self._one(step + 1, log_every)
        finally:
            self.prefetch.close()

    def _one(self, step: int, log_every: int) -> int:
        """Make a step; returns the one that training is at then, which is another if it was rolled back."""
        result = self._step(step, measured=self._is_due(step, log_every))
        self.watchdog.beat(step)
        wish = Wish(result.wishes)
        if wish is Wish.STOP:
            raise StageError(f"step {step}: a newer start of this training has taken over")
        if not result.made and (folder := self._answer(step, result)) is not None:
            return self._go_back(folder)
        self._log(step, result, log_every)
        if self.keeping.is_made(step) or wish is not Wish.GO_ON:
            self._save(step)
        if wish is Wish.SAVE_AND_STOP and step < self.schedule.steps:
            self.saver.wait()
            self._stop(step)
        return step

    def _go_back(self, folder: Path) -> int:
        self.prefetch.close()
        step = self._go_to(folder)
        self.prefetch = self._read_behind(step)
        if self.metrics is not None:
            self.metrics.close()
        self.metrics = self._open_metrics(step)
        return step

    def _read_behind(self, step: int) -> Prefetch:
        share = {"dp": self.parallel.dp, "micro_batch": self.parallel.micro_batch}
        rank = self.engine.dp_rank
        return Prefetch(
            lambda step: list(self.batches.micro_batches(step, dp_rank=rank, **share)),
            self.batches.position,
            first=step + 1,
            last=self.schedule.steps,
        )

    def _stop(self, step: int) -> None:
        if self.metrics is not None:
            self.metrics.close()
        cause = self.wishes.cause()
        raise Interrupted(
            f"step {step} of {self.schedule.steps}: saved and stopped ({cause})",
            cause,
            warned=self.wishes.signal != signal.SIGTERM,
        )

    def _checked(self, other: Start) -> Path:
        """The checkpoint of the training that this one goes on from."""
        folder = other.checkpoint()
        state = checkpoints.state_of(folder)
        start.check(state, str(other.home), self.model, self.schedule, self.source, self.task.seed)
        if not checkpoints.is_sound(folder, rank=self.place.rank, device=self.place.device):
            raise ArtifactError(f"{folder} is damaged; another start_step, or train it again")
        return folder

    def _go_to(self, folder: Path | None) -> int:
        """Take what the checkpoint in ``folder`` holds, if there is one; returns its step."""
        if folder is None:
            if self.begin_with is not None:
                self.engine.take(self.begin_with)
            self.batches.left_out = self.watch.left_out
            return 0
        checkpoints.check_model(folder, self.model)
        state = checkpoints.state_of(folder)
        self.watch.go_to(state.get("watch", {}), state["step"])
        self.batches.go_to(state["reading"])
        self.batches.left_out = self.watch.left_out
        self.engine.load(folder, state["updates"])
        return state["step"]

    def _bad_steps(self) -> list[dict[str, Any]]:
        """What earlier attempts have recorded, read by process 0 for all."""
        records = [read_json(self.out / bad_steps.FILE) or [] if self.place.rank == 0 else []]
        dist.broadcast_object_list(records, src=0, device=self.place.device)
        return records[0]

    def _open_metrics(self, resumed: int) -> Metrics | None:
        """Process 0: finish the exports of earlier attempts, then open the records."""
        if self.place.rank:
            return None
        export.forget_beyond(self.out, resumed)
        for step in checkpoints.whole_steps(self.out):
            if self.keeping.is_made(step):
                self._export(step)
        return Metrics(
            self.out,
            self.task,
            schedule=self.schedule,
            speed=self.speed,
            resumed_step=resumed,
            watched=self.watching.every > 0,
            wandb=self.watching.wandb,
        )

    def _step(self, step: int, *, measured: bool) -> StepResult:
        rows = self.prefetch.rows(step)
        watched = self.gauges is not None and step % self.watching.every == 0
        if self.gauges is not None and watched:
            self.gauges.begin()
        self.engine.communication.begin(measured=measured)
        result = self.engine.step(
            rows,
            self.schedule.learning_rate(step),
            self.wishes.wish(),
            self.schedule.micro_batches(step, self.parallel),
            self.watch.bounds(step),
            (self.prefetch.wait_s, memory_peak(self.place.device) if measured else 0.0),
        )
        self.engine.communication.end()
        self.waits.data_s += result.largest[0]
        if self.gauges is not None and watched and result.made:
            share = {"dp": self.parallel.dp, "micro_batch": self.parallel.micro_batch}
            sources = self.batches.sources_of(step, dp_rank=self.engine.dp_rank, **share)
            record = self.gauges.record(rows, sources)
            if self.metrics is not None:
                self.metrics.watch(step, record, lines(record))
        if result.made:
            self.watch.passed(result.loss, result.grad_norm)
        return result

    def _answer(self, step: int, result: StepResult) -> Path | None:
        """Record what is done about a bad step: the checkpoint to go back to, or None where it is skipped.

        Raises NotFiniteError where training is to stop, or there were too many.
        """
        if self.watch.was_skipped(step):
            return None
        seen = (step, result.loss, result.grad_norm)
        why = bad_steps.reason(*seen[1:], self.watch.bounds(step))
        if self.watch.is_over():
            raise NotFiniteError(
                f"step {step}: loss {result.loss}, gradient norm {result.grad_norm} ({why}"
                f"{f', after {n} bad steps' if (n := len(self.watch.records)) else ''}); try a smaller "
                f"schedule.lr (now {self.schedule.lr}) or a longer schedule.warmup_steps"
            )
        back = self._kept_before() if self.schedule.bad_steps.action is BadStep.roll_back else None
        if back is None:
            self.watch.skipped(*seen, why)
        else:
            to = int(back.name)
            read = self.schedule.sequences_before(step + 1) - self.schedule.sequences_before(to + 1)
            self.watch.rolled_back(*seen, why, to=to, sequences=read)
        if self.place.rank == 0:
            if back is not None:  # before the record: without it all of this comes again
                checkpoints.keep_only(self.out, lambda other: other <= to)
            self.watch.write(self.out)
        return back

    def _kept_before(self) -> Path | None:
        """The newest checkpoint that does not depend on when training was cut; all processes call this together."""
        self.saver.wait()
        place = self.place
        step, _ = checkpoints.newest(
            self.out, rank=place.rank, device=place.device, wanted=self.keeping.is_made
        )
        if step:
            return self.out / checkpoints.CHECKPOINTS / str(step)
        return self._checked(self.start) if self.start is not None else None

    def _log(self, step: int, result: StepResult, log_every: int) -> None:
        if self.metrics is None or (result.made and not self._is_due(step, log_every)):
            return
        self.metrics.log(
            step=step,
            loss=bad_steps.finite(result.loss),
            lr=self.schedule.learning_rate(step),
            grad_norm=bad_steps.finite(result.grad_norm),
            **({"z_loss": bad_steps.finite(result.z_loss)} if self.schedule.z_loss else {}),
            memory_gb=round(result.largest[1] / 1e9, 3),
            communication_share=round(self.engine.communication.share, 4),
            **self.waits.take(self.saver.stalled_s),
            **({} if result.made else {"skipped": True}),
        )

    def _save(self, step: int) -> None:
        if self.metrics is not None:
            self.metrics.sync()
        state = {
            "step": step,
            "began": self.began,
            "tokens": self.schedule.tokens_at(step),
            "updates": self.engine.updates,
            "reading": self.prefetch.position,
            "model": asdict(self.model),
            "data": start.traits(self.schedule, step, self.source) | {"seed": self.task.seed},
            "watch": self.watch.state(),
            "layout": checkpoints.layout(self.parallel),
        }
        self.saver.start(state, lambda seconds: self._saved(step, seconds))

    def _saved(self, step: int, seconds: float) -> None:
        """Process 0, while training goes on: the checkpoint of ``step`` is there."""
        self.task.saved()
        self.wishes.saved(seconds)
        if self.keeping.is_made(step):
            self._export(step)
        checkpoints.keep_only(
            self.out, lambda other: other == step or self.keeping.stays(other, step)
        )

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
        made = [record for record in records if not record.get("skipped")] or records
        done = Counter(record["action"] for record in self.watch.records)
        earlier = {"tokens_before": self.schedule.tokens_at(self.began)} if self.began else {}
        return {
            "steps": self.schedule.steps,
            "tokens": self.schedule.tokens_at(self.schedule.steps),
            **earlier,  # of these, in the training that this one went on from
            **({"bad_steps": dict(done)} if done else {}),
            "parameters": self.model.parameters(),
            "padding": round(self.batches.padding(), 4),
            **self._epochs(),
            "first_loss": made[0]["loss"],
            "final_loss": made[-1]["loss"],
        }

    def _epochs(self) -> dict[str, Any]:
        if not isinstance(self.batches, Mixture):
            return {}
        return {"epochs": self.batches.epochs(self.schedule.steps)}

    def _is_due(self, step: int, log_every: int) -> bool:
        return step in (self.began + 1, self.schedule.steps) or step % log_every == 0
