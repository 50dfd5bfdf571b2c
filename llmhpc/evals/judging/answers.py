"""The answer in what a model has written, and whether it is one of those accepted."""

import re
from collections.abc import Sequence
from typing import Any

from lighteval.metrics.metrics_sample import ExactMatches, SampleLevelComputation
from lighteval.metrics.normalizations import gsm8k_normalizer, helm_normalizer
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc

NUMBER = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?")


class RightAnswers(SampleLevelComputation):
    """Of an item's texts the share whose answer is right; the mean over items is pass@1, estimated.

    Args:
        pattern: where the answer stands, as in ``found``.
    """

    def __init__(self, pattern: str = "") -> None:
        self.pattern = pattern

    def compute(self, doc: Doc, model_response: ModelResponse, **_: Any) -> float:
        """Of one item, all of whose choices are accepted."""
        texts = model_response.final_text
        return sum(right(text, doc.choices, self.pattern) for text in texts) / len(texts)


def found(text: str, pattern: str) -> str:
    """The first group of ``pattern`` where it is found last, "" where it is not; all of the text without one."""
    if not pattern:
        return text.strip()
    places = list(re.finditer(pattern, text))
    return (places[-1].group(1) or "").strip() if places else ""


def right(text: str, accepted: Sequence[str], pattern: str = "") -> bool:
    """Whether the answer in ``text`` is one of those accepted; lighteval's exact match, after its normalization.

    A number is compared with numbers as in GSM8K (commas say nothing, a sign and a point do); else an answer
    is compared as in SQuAD and TriviaQA: case, punctuation and articles say nothing. An accepted answer may
    stand in a worked solution ("... #### 72"): then ``pattern`` finds it there too.

    Args:
        text: what the model wrote.
        accepted: the answers, or aliases of the one.
        pattern: as in ``found``.
    """
    answer = found(text, pattern)
    golds = [found(gold, pattern) or gold.strip() for gold in accepted]
    return any(_alike(gold).compute_one_item(gold, answer) for gold in golds)


def _alike(gold: str) -> ExactMatches:
    normalize = _number if NUMBER.fullmatch(gold) else _name
    return ExactMatches(strip_strings=True, normalize_gold=normalize, normalize_pred=normalize)


def _number(text: str) -> str:
    text = text.rstrip(".")  # a full stop behind it is not of the number
    return gsm8k_normalizer(f"#### {text}") if NUMBER.fullmatch(text) else text


def _name(text: str) -> str:
    """HELM's, which leaves nothing of an answer like A: that is compared as it stands."""
    return helm_normalizer(text) or text
