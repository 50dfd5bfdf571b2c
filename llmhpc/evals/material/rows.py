"""A row of a data set as the fields of a question: Jinja2 templates and expressions of a task's settings, sandboxed."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llmhpc.errors import ConfigError
from llmhpc.evals.material.rowfiles import Place

if TYPE_CHECKING:
    from jinja2 import Environment


@functools.cache
def _environment() -> "Environment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


@functools.cache
def template(source: str) -> Callable[[dict[str, Any]], str]:
    """What makes a text of a row: "Question: {{ question }}". Raises ConfigError if it does not compile."""
    from jinja2 import TemplateSyntaxError

    if "{" not in source:
        return lambda cells: source
    try:
        return _environment().from_string(source).render
    except TemplateSyntaxError as error:
        raise ConfigError(f"{source!r}: {error.message}") from None


@functools.cache
def expression(source: str) -> Callable[[dict[str, Any]], Any]:
    """What makes a value of a row: "choices.label.index(answerKey)". Raises ConfigError if it does not compile."""
    from jinja2 import TemplateSyntaxError

    if not source:
        return lambda cells: None
    try:
        return _environment().compile_expression(source, undefined_to_none=False)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{source!r}: {error.message}") from None


class Row(NamedTuple):
    """One row, and where it stands: each error names setting, file and line."""

    place: Place
    cells: dict[str, Any]

    def wrong(self, setting: str, what: str) -> ConfigError:
        """The error to raise."""
        return ConfigError(f"{setting}: {self.place}: {what}")

    def text(self, setting: str, source: str) -> str:
        """The text that the template ``source`` makes. Raises ConfigError if a field is missing."""
        return str(self._made(setting, template(source)))

    def filled(self, setting: str, source: str) -> str:
        """The same, where there must be more than white space."""
        if not (text := self.text(setting, source)).strip():
            raise self.wrong(setting, f"{source!r} gives an empty text")
        return text

    def value(self, setting: str, source: str) -> Any:
        """The value of the expression ``source``; None for an empty one. Raises ConfigError likewise."""
        return self._made(setting, expression(source))

    def strings(self, setting: str, source: str, least: int) -> list[str]:
        """A list of at least so many strings that are not empty. Raises ConfigError likewise."""
        value = self.value(setting, source)
        if not (isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value)):
            raise self.wrong(setting, f"{_short(value)} is no list of strings")
        if len(value) < least:
            raise self.wrong(setting, f"{_short(value)} has {len(value)}, {least} or more needed")
        return list(value)

    def indices(self, setting: str, source: str, among: int) -> tuple[int, ...]:
        """One place or several among so many, from 0; digits in a string are a number too."""
        value = self.value(setting, source)
        values = value if isinstance(value, list | tuple) else [value]
        indices = [int(v) if isinstance(v, str) and v.isdecimal() else v for v in values]
        right = all(isinstance(i, int) and not isinstance(i, bool) for i in indices)
        if not (indices and right and all(0 <= i < among for i in indices)):
            raise self.wrong(setting, f"{_short(value)} where 0 to {among - 1} is right")
        return tuple(indices)

    def name(self, setting: str, source: str) -> str:
        """A name or a number, as a string; empty where there is none."""
        value = self.value(setting, source)
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            return "" if value is None else str(value)
        raise self.wrong(setting, f"{_short(value)} is no name")

    def _made(self, setting: str, make: Callable[[dict[str, Any]], Any]) -> Any:
        from jinja2 import StrictUndefined, TemplateError

        try:
            value = make(self.cells)
            if isinstance(value, StrictUndefined):
                str(value)  # raises, and says what is not there
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            there = ", ".join(self.cells)
            raise self.wrong(setting, f"{error}; the row has {there}") from None
        return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
