"""Questions in fours: four stretches of text that ask which of their four answers is their own."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from llmhpc.evals.items import Item

CHOICES = 4


class Stretch(NamedTuple):
    """A piece of a document: what is shown, the white space after it, and what truly follows."""

    id: str
    document: str
    prompt: str
    gap: str
    answer: str
    alone: str = ""  # what the answer's likelihood is compared with: behind what


def items(
    stretches: list[Stretch],
    most: int,
    hardness: Callable[[Stretch], float],
    apart: Callable[[Stretch, Stretch], bool],
) -> list[Item]:
    """Four-way items, at most ``most``, of fours whose answers are about equally hard.

    All four questions of a four have the same choices, each with the white space of its own. So a model that
    judges an answer without the question is right in one of four, whatever it prefers. The right answer stands
    equally often at each place.

    Args:
        stretches: early ones are used first, each once at most.
        most: items.
        hardness: of an answer; those near each other stand together.
        apart: whether neither answer could be that of the other. Both are of different documents.
    """
    found: list[Item] = []
    for four in _fours(stretches, hardness, apart):
        if len(found) + CHOICES > most:
            break
        found += [_item(four, gold) for gold in range(CHOICES)]
    return found


def in_turns(stretches: list[Stretch]) -> list[Stretch]:
    """A first stretch of every document, then a second of every document, and so on; else by chance."""
    turns: dict[str, int] = {}
    order = []
    for stretch in sorted(stretches, key=lambda stretch: _hash("window", stretch.id)):
        turn = turns[stretch.document] = turns.get(stretch.document, -1) + 1
        order.append((turn, _hash("turn", stretch.id), stretch))
    return [stretch for *_, stretch in sorted(order)]


def _item(four: list[Stretch], gold: int) -> Item:
    own = four[gold]
    return Item(
        id=own.id,
        prompt=own.prompt,
        choices=tuple(own.gap + other.answer for other in four),
        gold=(gold,),
        alone=own.alone,
        document=own.document,
        group=four[0].id,
    )


def _hash(*parts: str) -> bytes:
    """The same everywhere and always, unlike ``hash``; orders things by chance."""
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _fours(
    stretches: list[Stretch],
    hardness: Callable[[Stretch], float],
    apart: Callable[[Stretch, Stretch], bool],
) -> Iterator[list[Stretch]]:
    left = list(stretches)
    while left:
        first = left[0]
        near = sorted(left[1:], key=lambda s: (abs(hardness(s) - hardness(first)), s.id))
        four = [first, *itertools.islice(_fitting(first, near, apart), CHOICES - 1)]
        if len(four) == CHOICES:
            yield sorted(four, key=lambda stretch: _hash("place", stretch.id))
        used = set(four) if len(four) == CHOICES else {first}
        left = [stretch for stretch in left if stretch not in used]


def _fitting(
    first: Stretch, others: list[Stretch], apart: Callable[[Stretch, Stretch], bool]
) -> Iterator[Stretch]:
    """Those of ``others`` that can stand beside ``first`` and beside each other."""
    chosen = [first]
    for other in others:
        if all(other.document != member.document and apart(other, member) for member in chosen):
            chosen.append(other)
            yield other
