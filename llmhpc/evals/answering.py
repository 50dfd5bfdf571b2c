"""What a checkpoint answers to all items of one task, on disk: nothing is asked twice of the same model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmhpc.evals.items import Asked, Form, Item
from llmhpc.evals.models import exports
from llmhpc.files import read_json, write_json

if TYPE_CHECKING:
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.requests import Doc

    from llmhpc.evals.models.model import ScoringModel


class Answer(NamedTuple):
    """To one item; a text has one entry for each of its windows, a question one for each choice."""

    logprobs: list[float]  # nats, given the prompt
    alone: list[float]  # nats, given ``Item.alone``; empty without it
    greedy: list[bool]  # greedy decoding gives the choice
    tokens: list[int]  # of each choice
    truncated: int  # tokens that the prompt lost to fit in the model
    texts: list[str]  # what the model wrote


class Answers(NamedTuple):
    """To all items of one task in one form."""

    device: str  # that the model was on: a GPU computes in the export's own type
    by_item: dict[str, Answer]


def folder_of(kept: Path, export: exports.Export) -> Path:
    """Where what an export said is kept; its name follows what is in its files."""
    return kept / f"{export.step:06d}-{exports.content_hash(export.folder)}"


def path_of(kept: Path, export: exports.Export, asked: Asked) -> Path:
    """Where the answers of an export to a task are kept; the name follows the items, too."""
    return folder_of(kept, export) / f"{asked.name}-{asked.hash}.json"


def read(path: Path) -> Answers | None:
    """What ``write`` left; None if it is not there."""
    found = read_json(path)
    if found is None:
        return None
    device, by_item = found
    return Answers(device, {item: Answer(*values) for item, values in by_item.items()})


def write(path: Path, answers: Answers) -> None:
    """Keep answers, by rename."""
    write_json(path, answers)


def doc_of(asked: Asked, item: Item) -> "Doc":
    """The item in lighteval's terms."""
    from lighteval.tasks.requests import Doc

    return Doc(
        task_name=asked.task,
        query=item.prompt,
        choices=list(item.choices),
        gold_index=list(item.gold),
        unconditioned_query=item.alone,
        specific={"leads": item.leads} if item.leads else None,
        original_query=item.choices[0] if asked.form is Form.text else None,
        generation_size=asked.writing.max_tokens,
        stop_sequences=list(asked.writing.stop),
        num_samples=asked.writing.samples,
    )


def response_of(answer: Answer) -> "ModelResponse":
    """The answer in lighteval's terms; of tokens it has as many as there were, and not which."""
    from lighteval.models.model_output import ModelResponse

    return ModelResponse(
        logprobs=answer.logprobs + answer.alone,
        argmax_logits_eq_gold=answer.greedy,
        output_tokens=[[0] * count for count in answer.tokens],
        truncated_tokens_count=answer.truncated,
        text=answer.texts,
    )


def answers_of(items: list[Item], responses: "list[ModelResponse]", device: str) -> Answers:
    """What the responses say, by item."""
    pairs = zip(items, responses, strict=True)
    return Answers(device, {item.id: _answer(item, response) for item, response in pairs})


def respond(
    model: "ScoringModel", asked: Asked, progress: Callable[[int], None]
) -> "list[ModelResponse]":
    """What a model says to every item."""
    docs = [doc_of(asked, item) for item in asked.items]
    model.progress = progress
    if asked.form is Form.written:
        return model.write(docs, asked.writing)
    if asked.form is Form.text:
        return model.loglikelihood_rolling(docs)
    return model.loglikelihood(docs)


def _answer(item: Item, response: "ModelResponse") -> Answer:
    alone = len(item.choices) if item.alone is not None else 0
    cut = len(response.logprobs) - alone
    return Answer(
        logprobs=response.logprobs[:cut],
        alone=response.logprobs[cut:],
        greedy=list(response.argmax_logits_eq_gold or []),
        tokens=[len(tokens) for tokens in response.output_tokens],
        truncated=response.truncated_tokens_count or 0,
        texts=list(response.text or []),
    )
