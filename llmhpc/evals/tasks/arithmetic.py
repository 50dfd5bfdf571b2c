"""Sums of small numbers, behind some that are worked out: which of four numbers is the result."""

import random
from dataclasses import dataclass

from llmhpc.config import at_least
from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.tasks import EvalTask, Material

OPERATIONS = {"+": int.__add__, "-": int.__sub__}
OFFSETS = (-10, -3, -2, -1, 1, 2, 3, 10)  # of a wrong answer from the right one


@dataclass(kw_only=True, slots=True)
class Config(EvalTask):
    """How large the numbers are; a domain of scores for each operation."""

    kind: str = "arithmetic"
    items: int = 200
    largest: int = 20  # number of a sum
    shots: int = 4
    metric: str = "acc"

    def __post_init__(self) -> None:
        EvalTask.__post_init__(self)
        at_least(self, "largest", 3)
        at_least(self, "shots", 0)


def ask(cfg: Config, name: str, material: Material) -> list[Asked]:
    """As many different sums as there are, at most ``items``."""
    numbers = range(1, cfg.largest + 1)
    sums = [(a, sign, b) for a in numbers for b in numbers for sign in OPERATIONS if b <= a]
    random.Random(0).shuffle(sums)
    shown, asked = sums[: cfg.shots], sums[cfg.shots : cfg.shots + cfg.items]
    examples = "".join(f"{_text(one)} {_result(one)}\n" for one in shown)
    return [Asked(name, Form.cloze, [_item(one, examples) for one in asked], cfg.metric)]


def _text(one: tuple[int, str, int]) -> str:
    return f"{one[0]} {one[1]} {one[2]} ="


def _result(one: tuple[int, str, int]) -> int:
    return OPERATIONS[one[1]](one[0], one[2])


def _item(one: tuple[int, str, int], examples: str) -> Item:
    draw, result = random.Random(_text(one)), _result(one)
    wrong = draw.sample([result + offset for offset in OFFSETS if result + offset >= 0], 3)
    choices = [result, *wrong]
    draw.shuffle(choices)
    return Item(
        id=_text(one).removesuffix(" ="),
        prompt=examples + _text(one),
        choices=tuple(f" {number}" for number in choices),
        gold=(choices.index(result),),
        domain={"+": "addition", "-": "subtraction"}[one[1]],
    )
