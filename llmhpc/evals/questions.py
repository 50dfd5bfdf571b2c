"""What is asked of a row before it becomes an item, and the solved examples that are shown before it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from llmhpc.errors import ConfigError
from llmhpc.evals.items import Item, picked

if TYPE_CHECKING:
    from llmhpc.evals.tasks.data import Shown


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


def items(cfg: "Shown", question_of: Callable[[Any], Question | None]) -> list[Item]:
    """The items of a task, with their examples: what ``question_of`` makes of what the task understands.

    Raises:
        ConfigError: a row is wrong, or there are too few examples.
    """
    from lighteval.tasks.prompt_manager import FewShotSampler

    folder = cfg.folder()
    known, pools = cfg.known(folder), cfg.pools(folder)
    samplers: dict[str, Any] = {}
    found = []
    for one in picked(known, cfg.items):
        if (question := question_of(one.asked)) is None:
            continue
        examples: list[Question] = []
        if cfg.shots:
            if one.domain not in samplers:
                pool = [question_of(asked) for asked in cfg.pool(pools, one.domain)]
                samplers[one.domain] = FewShotSampler(_Pool([q for q in pool if q]))  # type: ignore
            examples = samplers[one.domain].sample_fewshot_examples(
                cfg.shots, cfg.shots_seed, formatted_doc=question
            )
            if len(examples) < cfg.shots:
                raise ConfigError(
                    f"shots={cfg.shots}: few_shot_split={cfg.few_shot_split} has {len(examples)} other than"
                    f" {one.id}"
                )
        found.append(_item(one, question, examples))
    return found


def _item(known: Any, question: Question, examples: list[Question]) -> Item:
    return Item(
        id=known.id,
        prompt=prompt(question, examples),
        choices=question.choices,
        gold=question.gold,
        leads=question.leads,
        alone=question.alone,
        document=known.document,
        group=known.group,
        domain=known.domain,
    )


def prompt(question: Question, examples: list[Question]) -> str:
    """Instruction, examples, question, with an empty line between them.

    As lighteval's PromptManager does it, except that an example has its answer exactly as a choice would be
    scored: the manager puts a blank before every answer, even behind a prompt that ends with one.
    """
    solved = [example.prompt + example.answer for example in examples]
    begin = [question.instruction] if question.instruction else []
    return "\n\n".join([*begin, *solved, question.prompt])
