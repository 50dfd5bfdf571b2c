"""A server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, TGI, or a paid service."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from omegaconf import MISSING

from llmhpc.config import NOT_IDENTITY, at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.generation import Answer, Sampling, UnansweredError, rejected
from llmhpc.generation.backends import Ask, Backend

if TYPE_CHECKING:
    from openai import OpenAI

NO_KEY = "none"  # servers of one's own ask for none, the client does
MALFORMED_S = 1.0  # before a request is sent again whose answer could not be read


class MalformedError(ValueError):
    """What a server sent is not as OpenAI's API has it."""


@dataclass(kw_only=True, slots=True)
class Config(Backend):
    """Where the server is and how it is treated. None of that is part of what is made, only the model is.

    A server that was started again at another address goes on with the same step.
    """

    kind: str = "endpoint"
    # ranks take turns at several; vLLM's own default
    urls: list[str] = field(
        default_factory=lambda: ["http://localhost:8000/v1"], metadata=NOT_IDENTITY
    )
    model: str = MISSING  # as the server calls it
    chat: bool = True  # false: the bare prompt, for a model that was never taught to chat
    key_variable: str = field(
        default="", metadata=NOT_IDENTITY
    )  # environment variable with the key
    timeout_s: float = field(default=300.0, metadata=NOT_IDENTITY)  # of one try
    concurrent: int = field(default=32, metadata=NOT_IDENTITY)  # requests of one rank at once
    retries: int = field(default=8, metadata=NOT_IDENTITY)  # after 0.5 s, 1 s, ... 8 s

    def __post_init__(self) -> None:
        at_least(self, "concurrent", 1)
        at_least(self, "retries", 0)
        at_least(self, "timeout_s", 0.1)
        if not self.urls:
            raise ConfigError("urls=[]: an address, as in http://localhost:8000/v1")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigError(f"urls={url}: http:// or https://, a host and mostly /v1")
            if parts.password:
                raise ConfigError(
                    "urls: no password in an address; key_variable names where a key is"
                )

    def model_name(self, folder: Path | None) -> str:
        """As the server is asked for it."""
        return self.model

    def width(self) -> int:
        """As set."""
        return self.concurrent

    def before_launch(self) -> None:
        """Raise ConfigError if the key's variable is not set."""
        if self.key_variable and not os.environ.get(self.key_variable):
            raise ConfigError(
                f"key_variable={self.key_variable}: this environment variable is not set;"
                " export it, or leave key_variable empty for a server without a key"
            )


def open_backend(cfg: Config, sampling: Sampling, folder: Path | None, rank: int) -> Ask:
    """Asks the server of this rank, one prompt at a time."""
    from openai import OpenAI

    url = cfg.urls[rank % len(cfg.urls)]
    key = os.environ.get(cfg.key_variable, "") if cfg.key_variable else ""
    client = OpenAI(
        base_url=url, api_key=key or NO_KEY, timeout=cfg.timeout_s, max_retries=cfg.retries
    )
    return lambda group: [_answer(cfg, client, sampling, *request) for request in group]


def _answer(cfg: Config, client: "OpenAI", sampling: Sampling, prompt: str, seed: int) -> Answer:
    """The server's answer, or its refusal of this prompt."""
    import openai

    try:
        return _tried(cfg, client, sampling, prompt, seed)
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        return rejected(_line(error), cfg.model)
    except (
        openai.APIConnectionError,
        openai.RateLimitError,
        openai.InternalServerError,
        MalformedError,
    ) as error:
        raise UnansweredError(
            f"{client.base_url}: no answer after {cfg.retries + 1} tries ({_line(error)});"
            " what was answered is kept, launch again to ask for the rest"
        ) from error
    except openai.APIStatusError as error:  # a wrong key, a model that is not there
        raise StageError(f"{client.base_url} refuses model={cfg.model}: {_line(error)}") from error


def _tried(cfg: Config, client: "OpenAI", sampling: Sampling, prompt: str, seed: int) -> Answer:
    """Asks again where the answer cannot be read; after 408, 409, 429, 5xx and lost connections the client does."""
    for _ in range(cfg.retries):
        try:
            return _read(_send(cfg, client, sampling, prompt, seed), cfg.model)
        except MalformedError:
            time.sleep(MALFORMED_S)
    return _read(_send(cfg, client, sampling, prompt, seed), cfg.model)


def _send(cfg: Config, client: "OpenAI", sampling: Sampling, prompt: str, seed: int) -> Any:
    how: dict[str, Any] = {
        "model": cfg.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": seed,
    }
    try:
        if cfg.chat:
            messages: Any = [{"role": "user", "content": prompt}]
            return client.chat.completions.create(messages=messages, **how)
        return client.completions.create(prompt=prompt, **how)
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}") from error


def _read(response: Any, model: str) -> Answer:
    """The client checks nothing: a page of a proxy is a string to it."""
    choices, usage = getattr(response, "choices", None), getattr(response, "usage", None)
    if not choices:
        raise MalformedError(f"no choices in {str(response)[:80]}")
    choice = choices[0]
    message = getattr(choice, "message", None)
    text = getattr(choice, "text", None) if message is None else message.content
    return Answer(
        text=text or "",
        finish_reason=choice.finish_reason or "",
        prompt_tokens=usage.prompt_tokens if usage else 0,
        completion_tokens=usage.completion_tokens if usage else 0,
        model=response.model or model,
    )


def _line(error: Exception) -> str:
    cause = f": {error.__cause__}" if error.__cause__ else ""
    return " ".join(f"{error}{cause}".split())[:300]
