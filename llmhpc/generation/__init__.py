"""Synthetic documents: recipes say what is asked, backends answer, and what is no document is set aside.

Which requests there are, in which order and with which seeds follows from the settings and the inputs alone, never
from the number of ranks. Every answer is on disk for good before the next one is waited for.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError

SEED_BITS = 31  # what every server takes


class UnansweredError(StageError):
    """A request got no answer, however often it was sent; others may get one."""


@dataclass(kw_only=True, slots=True)
class Sampling:
    """How an answer is drawn from the model's distribution."""

    temperature: float = 0.8  # 0: always the likeliest token
    top_p: float = 0.95  # from the likeliest tokens that have this much together
    max_new_tokens: int = 1024

    def __post_init__(self) -> None:
        at_least(self, "temperature", 0)
        at_least(self, "max_new_tokens", 1)
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}: more than 0, 1 at most")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One prompt; ``place`` tells it from all others of its stage, ``parts`` say what it was made of."""

    prompt: str
    place: str
    parts: dict[str, Any]

    def digest(self, model: str, sampling: Sampling, seed: int) -> str:
        """What tells this request to this model from any other, 32 hex digits."""
        what = json.dumps([self.place, self.prompt, model, asdict(sampling), seed])
        return hashlib.blake2b(what.encode(), digest_size=16).hexdigest()


class Answer(NamedTuple):
    """What came back; ``finish_reason`` as in OpenAI's API, or rejected with the reason in ``problem``."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    model: str  # as the server calls it
    problem: str = ""


def rejected(problem: str, model: str, prompt_tokens: int = 0) -> Answer:
    """The answer to a request that no second try would help."""
    return Answer("", "rejected", prompt_tokens, 0, model, problem)
