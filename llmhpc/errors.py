"""One class for each kind of thing that goes wrong, so that the reader knows whose move it is."""

import functools
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec


class LlmhpcError(Exception):
    """What this package raises on purpose; the message is one line for a person."""


class ConfigError(LlmhpcError, ValueError):
    """A setting is wrong: the message names the key, the value and what would be right."""


class ArtifactError(LlmhpcError, RuntimeError):
    """An input is not whole, or not what it says it is."""


class StageError(LlmhpcError, RuntimeError):
    """The work of a stage failed: the message says what was seen and what to look at."""


class NotFiniteError(StageError):
    """A loss or a gradient is not a number."""


class PeerLostError(StageError):
    """Another process of the same task is gone; why is not known here."""


class HangError(StageError):
    """No step of a training has ended for too long."""


class Interrupted(StageError):
    """The work was stopped from outside with everything saved: another start goes on from there.

    ``cause`` is timeout or preempted; ``warned``: the job is still the user's, and could go back into the queue.
    """

    def __init__(self, message: str, cause: str, *, warned: bool) -> None:
        super().__init__(message)
        self.cause, self.warned = cause, warned


P = ParamSpec("P")


def denied_in_one_line(main: Callable[P, int]) -> Callable[P, int]:
    """For a command: a file that this user may not use is said in a line, and its exit status is 1."""

    @functools.wraps(main)
    def command(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except PermissionError as error:
            sys.stderr.write(f"llmhpc: {denied(error)}\n")
            return 1

    return command


def denied(error: PermissionError) -> str:
    """What may not be used, whose it is, and what lets several people use one root."""
    path = Path(str(error.filename)).absolute()
    while (about := _owner_and_mode(path)) is None:
        path = path.parent
    return (
        f"{error.filename}: not permitted to {getpass.getuser()} ({path} is {about}); to share a root, give"
        " all of it to a group (chmod g+rwX, g+s on folders) and launch with umask 002"
    )


def _owner_and_mode(path: Path) -> str | None:
    try:
        return f"{path.owner()}'s, mode {path.stat().st_mode & 0o7777:o}"
    except (OSError, KeyError):
        return None if path != path.parent else "nobody's"
