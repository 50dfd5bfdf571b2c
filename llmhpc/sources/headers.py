"""Headers that are plainly written, looked up where they stand: a page is asked for few of those that it has."""

from collections.abc import Iterator, Mapping
from typing import Any

# lines of a name, a colon, a blank and a value that neither begins nor ends with a blank
FIELDS = rb"(?:\r\n[!-9;-~]+: [!-~][ -~]*(?<! ))*"


class Headers(Mapping[str, str]):
    """Of ``lines`` that match FIELDS, with the line end behind them. Names are in lower case; of repeated ones the first counts."""

    __slots__ = ("_lower", "_text")

    def __init__(self, lines: bytes) -> None:
        self._text = lines.decode("ascii")
        self._lower = self._text.lower()

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``."""
        begin = f"\r\n{name}: "
        found = self._lower.find(begin)
        if found < 0:
            return default
        start = found + len(begin)
        return self._text[start : self._text.find("\r\n", start)]

    def is_value(self, name: str, value: str) -> bool:
        """Whether there is ``name``, and its value is ``value``, which is in lower case."""
        begin = f"\r\n{name}: "
        found = self._lower.find(begin)
        return found >= 0 and self._lower.startswith(f"{value}\r\n", found + len(begin))

    def __contains__(self, name: object) -> bool:
        return f"\r\n{name}: " in self._lower

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        lines = self._lower.split("\r\n")[1:-1]
        return iter(dict.fromkeys(line.partition(": ")[0] for line in lines))

    def __len__(self) -> int:
        return sum(1 for _ in self)
