"""lighteval's prompt templates for questions with answers, in both formulations."""

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from llmhpc.evals.items import Form
from llmhpc.evals.material.questions import Question


class Template(Enum):
    """How a prompt is put together."""

    question = "question"  # Question: ... Answer:
    continuation = "continuation"  # a text that a choice goes on with
    hellaswag = "hellaswag"  # the same, with WikiHow's artefacts removed
    plain = "plain"  # as it stands


class Parts(NamedTuple):
    """What a row says, before a template puts it together."""

    instruction: str
    context: str
    question: str
    opening: str
    choices: tuple[str, ...]
    gold: tuple[int, ...]
    leads: tuple[str, ...]


def maker(template: Template, form: Form) -> Callable[[Parts], Question | None]:
    """What makes a question of the parts of a row; None where nothing is left of a choice."""
    if template is Template.plain:
        return functools.partial(_plain, form)
    from lighteval.tasks.templates.continuation import get_continuation_prompt_function
    from lighteval.tasks.templates.hellaswag import get_hellaswag_prompt_function
    from lighteval.tasks.templates.multichoice import get_mcq_prompt_function
    from lighteval.tasks.templates.utils.formulation import CFFormulation, MCFFormulation
    from lighteval.utils.language import Language

    get, adapter = {
        Template.question: (get_mcq_prompt_function, _mcq),
        Template.continuation: (get_continuation_prompt_function, _continuation),
        Template.hellaswag: (get_hellaswag_prompt_function, _hellaswag),
    }[template]
    formulation = CFFormulation() if form is Form.cloze else MCFFormulation()
    doc_of = get(Language.ENGLISH, adapter, formulation)  # type: ignore[operator]

    def question_of(parts: Parts) -> Question | None:
        doc = doc_of(parts, "")
        if doc is None:
            return None
        return Question(
            prompt=doc.query,
            choices=tuple(doc.choices),
            answer=doc.get_golds()[0],
            gold=parts.gold,
            # a letter is not likelier than others by what it says
            alone=doc.unconditioned_query if form is Form.cloze else None,
            instruction=parts.instruction,
        )

    return question_of


def _plain(form: Form, parts: Parts) -> Question:
    right = parts.gold[0]
    lead = parts.leads[right] if parts.leads else ""
    return Question(
        prompt=parts.context + parts.question,
        choices=parts.choices,
        answer=lead + parts.choices[right],
        gold=parts.gold,
        leads=parts.leads,
        alone="" if form is Form.cloze else None,
        instruction=parts.instruction,
    )


# The instruction is no part of these: it stands once, before the examples.


def _mcq(parts: Parts) -> Any:
    return {
        "context": parts.context,
        "question": parts.question,
        "choices": list(parts.choices),
        "gold_idx": list(parts.gold),
    }


def _continuation(parts: Parts) -> Any:
    return {
        "context": parts.context + parts.question,
        "continuations": list(parts.choices),
        "gold_idx": list(parts.gold),
    }


def _hellaswag(parts: Parts) -> Any:
    return {
        "activity_label": parts.context,
        "ctx_a": parts.question,
        "ctx_b": parts.opening,
        "continuations": list(parts.choices),
        "gold_idx": list(parts.gold),
    }
