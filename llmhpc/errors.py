"""One class for each kind of thing that goes wrong, so that the reader knows whose move it is."""


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


class Interrupted(StageError):
    """The work was stopped from outside with everything saved: another start goes on from there.

    ``cause`` is timeout or preempted; ``warned``: the job is still the user's, and could go back into the queue.
    """

    def __init__(self, message: str, cause: str, *, warned: bool) -> None:
        super().__init__(message)
        self.cause, self.warned = cause, warned
