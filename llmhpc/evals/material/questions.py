"""What is asked of a row before it becomes an item, and the solved examples that are shown before it."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llmhpc.errors import ConfigError
from llmhpc.evals.items import Item

if TYPE_CHECKING:
    from llmhpc.evals.tasks.data import Known, Shown


class Question(NamedTuple):
    """A row as it is asked; the fields are those of ``Item``."""

    prompt: str
    choices: tuple[str, ...]
    answer: str  # as an example shows it, with the white space before it
    gold: tuple[int, ...] = (0,)
    leads: tuple[str, ...] = ()
    alone: str | None = None
    instruction: str = ""  # what a prompt begins with, before the examples


class _Pool:
    """What lighteval's sampler wants to know of a task."""

    fewshot_selection = "random"
    fewshot_split = "examples"

    def __init__(self, questions: list[Question]) -> None:
        self.questions = questions

    def fewshot_docs(self) -> list[Question]:
        return self.questions


def items(
    cfg: "Shown",
    known: list["Known"],
    pools: dict[str, list[Any]],
    question_of: Callable[[Any], Question | None],
) -> list[Item]:
    """The items of a task, with their examples.

    Args:
        cfg: says how many examples.
        known: the rows that are asked.
        pools: for each domain what examples are chosen from, see ``Shown.pools``.
        question_of: makes a question of what the task understands; of what it makes none is left out.

    Raises:
        ConfigError: there are too few examples.
    """
    from lighteval.tasks.prompt_manager import FewShotSampler

    @functools.cache
    def sampler(domain: str) -> FewShotSampler:
        questions = map(question_of, cfg.pool(pools, domain))
        return FewShotSampler(_Pool([q for q in questions if q is not None]))  # type: ignore[arg-type]

    def examples(question: Question, one: "Known") -> list[Question]:
        if not cfg.shots:
            return []
        found: list[Any] = sampler(one.domain).sample_fewshot_examples(
            cfg.shots,
            cfg.shots_seed,
            formatted_doc=question,  # type: ignore[arg-type]
        )
        if len(found) < cfg.shots:
            raise ConfigError(f"shots={cfg.shots}: {len(found)} that are not {one.id} itself")
        return found

    return [
        Item(
            id=one.id,
            prompt=prompt(question, examples(question, one)),
            choices=question.choices,
            gold=question.gold,
            leads=question.leads,
            alone=question.alone,
            document=one.document,
            group=one.group,
            domain=one.domain,
        )
        for one in known
        if (question := question_of(one.asked)) is not None
    ]


def prompt(question: Question, examples: list[Question]) -> str:
    """Instruction, examples, question, with an empty line between them.

    As lighteval's PromptManager does it, except that an example has its answer exactly as a choice would be
    scored: the manager puts a blank before every answer, even behind a prompt that ends with one.
    """
    solved = [example.prompt + example.answer for example in examples]
    begin = [question.instruction] if question.instruction else []
    return "\n\n".join([*begin, *solved, question.prompt])
