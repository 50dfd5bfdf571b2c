"""One task: asks what is not answered yet, then writes the documents in the order of the requests."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from llmhpc.errors import StageError
from llmhpc.generation import SEED_BITS, Answer, Request, Sampling, UnansweredError
from llmhpc.generation.backends import Ask
from llmhpc.generation.journal import Journal
from llmhpc.task import Task
from llmhpc.tokens.shards import hash64, line_writer

LOOK_EVERY_S = 5.0  # for a newer start of the same task, and to say what is saved
REFUSED = "content_filter"  # a finish reason

Numbered = list[tuple[int, Request]]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What is done with the requests of a task; ``groups()`` gives them anew, always in the same order."""

    groups: Callable[[], Iterator[list[Request]]]
    model: str
    sampling: Sampling
    seed: int
    width: int  # groups at once
    unanswered_share: float
    keep_truncated: bool
    refusals: list[str]

    def requests(self) -> Iterator[Request]:
        """One by one."""
        return (request for group in self.groups() for request in group)

    def numbered(self) -> Iterator[Numbered]:
        """The groups with the numbers of their requests."""
        first = 0
        for group in self.groups():
            yield list(enumerate(group, first))
            first += len(group)

    def seed_of(self, request: Request) -> int:
        """By what the request is, not by when or where it is asked."""
        return hash64(request.place, f"generate {self.seed}".encode()) >> (64 - SEED_BITS)

    def digest(self, request: Request) -> str:
        """The id of the document."""
        return request.digest(self.model, self.sampling, self.seed_of(request))


def answer_all(
    asking: Asking, open_ask: Callable[[], Ask], out: Path, task: Task
) -> dict[str, Any]:
    """Write documents/ and removed/<reason>/ of one rank. Raises StageError if too many get no answer.

    Nothing is loaded or called if all is answered already.
    """
    keys = (int(asking.digest(request)[:16], 16) for request in asking.requests())
    with Journal(
        task.home / "work" / "answers" / f"{task.rank:05d}", np.fromiter(keys, np.uint64)
    ) as journal:
        if journal.answered < len(journal.keys):
            _Asker(asking, open_ask(), journal, task).run()
        return _write(asking, journal, out, task.rank)


class _Asker:
    """Keeps ``width`` groups on their way. The answers are written by this thread alone."""

    def __init__(self, asking: Asking, ask: Ask, journal: Journal, task: Task) -> None:
        self.asking, self.ask, self.journal, self.task = asking, ask, journal, task
        self.failures: list[UnansweredError] = []
        self.fatal: StageError | None = None
        self.begun = self.looked = time.monotonic()
        self.tokens = 0
        self.unsaid = False  # that something new is safe

    def run(self) -> None:
        going: dict[Future[list[Answer]], Numbered] = {}
        with ThreadPoolExecutor(self.asking.width) as pool:
            for group in self.asking.numbered():
                if all(number in self.journal for number, _ in group):
                    continue
                wanted = [(request.prompt, self.asking.seed_of(request)) for _, request in group]
                going[pool.submit(self.ask, wanted)] = group
                while len(going) >= self.asking.width:
                    self._collect(going)
                if self._stops():
                    break
            while going:  # what is on its way may be paid for
                self._collect(going)
        self._say_saved()
        if self._stops():
            raise self.fatal or self.failures[0]

    def _collect(self, going: dict[Future[list[Answer]], Numbered]) -> None:
        answers: list[tuple[int, Answer]] = []
        for done in wait(going, LOOK_EVERY_S, FIRST_COMPLETED).done:
            numbers = [number for number, _ in going.pop(done)]
            try:
                answers += zip(numbers, done.result(), strict=True)
            except UnansweredError as error:
                self.failures.append(error)
            except StageError as error:
                self.fatal = self.fatal or error
        if answers:
            self.journal.add(answers)
            self.unsaid = True
            self.tokens += sum(answer.completion_tokens for _, answer in answers)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        rate = self.tokens / max(now - self.begun, 1e-9)
        total = len(self.journal.keys)
        self.task.progress(self.journal.answered, total, "requests", f"{rate:,.0f} tokens/s")
        if now - self.looked >= LOOK_EVERY_S:
            self.looked = now
            self._say_saved()
            if self.task.superseded():
                self.fatal = StageError(
                    "this task was started again; the newer start has its answers"
                )

    def _say_saved(self) -> None:
        """Only of new answers: a start without any is a failure, and failures have a limit."""
        if self.unsaid:
            self.unsaid = False
            self.task.saved()

    def _stops(self) -> bool:
        allowed = self.asking.unanswered_share * len(self.journal.keys)
        return self.fatal is not None or len(self.failures) > allowed


def _write(asking: Asking, journal: Journal, out: Path, rank: int) -> dict[str, Any]:
    """Every request in order: its document, or under which reason it is set aside."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    refused = [re.compile(pattern, re.IGNORECASE) for pattern in asking.refusals]
    name = f"{rank:05d}.jsonl.zst"
    with ExitStack() as files:
        keep = files.enter_context(line_writer(out / "documents" / name))
        removed: dict[str, Callable[[bytes], None]] = {}
        for number, request in enumerate(asking.requests()):
            answer = (
                journal[number]
                if number in journal
                else Answer("", "unanswered", 0, 0, asking.model)
            )
            reason = _reason(answer, refused, asking.keep_truncated)
            document = _document(asking, request, answer, reason)
            counts["prompt_tokens"] += answer.prompt_tokens
            counts["completion_tokens"] += answer.completion_tokens
            if not reason:
                keep(orjson.dumps(document))
                counts["documents"] += 1
                counts["text_bytes"] += len(answer.text.encode())
                continue
            if reason not in removed:
                folder = out / "removed" / reason
                removed[reason] = files.enter_context(line_writer(folder / name))
            removed[reason](orjson.dumps(document))
            reasons[reason] += 1
    return {
        "documents_in": len(journal.keys),
        **{
            key: counts[key]
            for key in ("documents", "text_bytes", "prompt_tokens", "completion_tokens")
        },
        "reasons": dict(sorted(reasons.items())),
    }


def _reason(answer: Answer, refused: list[re.Pattern[str]], keep_truncated: bool) -> str:
    """Why an answer is no document; empty if it is one."""
    if answer.finish_reason in ("rejected", "unanswered"):
        return answer.finish_reason
    if answer.finish_reason == REFUSED or any(p.match(answer.text.strip()) for p in refused):
        return "refused"
    if not answer.text.strip():
        return "empty"
    return "truncated" if answer.finish_reason == "length" and not keep_truncated else ""


def _document(asking: Asking, request: Request, answer: Answer, reason: str) -> dict[str, Any]:
    metadata = request.parts | {
        "prompt": request.prompt,
        "model": answer.model,
        "temperature": asking.sampling.temperature,
        "top_p": asking.sampling.top_p,
        "max_new_tokens": asking.sampling.max_new_tokens,
        "seed": asking.seed_of(request),
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    if reason:
        why = f"{reason}: {answer.problem}" if answer.problem else reason
        metadata |= {"dropped_by": reason, "dropped_because": why}
    return {"text": answer.text.strip(), "id": asking.digest(request), "metadata": metadata}
