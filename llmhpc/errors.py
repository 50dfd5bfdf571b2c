"""One class for each kind of thing that goes wrong, so that the reader knows whose move it is."""


class LlmhpcError(Exception):
    """What this package raises on purpose; the message is one line for a person."""


class ConfigError(LlmhpcError, ValueError):
    """A setting is wrong: the message names the key, the value and what would be right."""


class ArtifactError(LlmhpcError, RuntimeError):
    """An input is not whole, or not what it says it is."""


class StageError(LlmhpcError, RuntimeError):
    """The work of a stage failed: the message says what was seen and what to look at."""
