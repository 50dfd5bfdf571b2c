"""The answer in what a model has written, and whether it is one of those accepted."""

import re
from collections.abc import Sequence

NUMBER = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?")


def found(text: str, pattern: str) -> str:
    """The first group of ``pattern`` where it is found last, "" where it is not; all of the text without one."""
    if not pattern:
        return text.strip()
    places = list(re.finditer(pattern, text))
    return (places[-1].group(1) or "").strip() if places else ""


def share_right(texts: Sequence[str], accepted: Sequence[str], pattern: str) -> float:
    """Of an item's samples, the share whose answer is right: its mean over items estimates pass@1."""
    return sum(right(text, accepted, pattern) for text in texts) / len(texts)


def right(text: str, accepted: Sequence[str], pattern: str = "") -> bool:
    """Whether the answer in ``text`` is one of those accepted; lighteval's exact match, after its normalization.

    Where all accepted answers are numbers, they are compared as GSM8K's are (commas say nothing); else as
    SQuAD's and TriviaQA's: case, punctuation and articles say nothing. An accepted answer may stand in a worked
    solution ("... #### 72"): then ``pattern`` finds it there too.

    Args:
        text: what the model wrote.
        accepted: the answers, or aliases of the one.
        pattern: as in ``found``.
    """
    from lighteval.metrics.metrics_sample import ExactMatches

    answer = found(text, pattern)
    golds = [found(gold, pattern) or gold.strip() for gold in accepted]
    alike = _number if all(NUMBER.fullmatch(gold) for gold in golds) else _name
    match = ExactMatches(strip_strings=True, normalize_gold=alike, normalize_pred=alike)
    return any(match.compute_one_item(gold, answer) for gold in golds)


def _number(text: str) -> str:
    from lighteval.metrics.normalizations import gsm8k_normalizer

    return gsm8k_normalizer(f"#### {text}").rstrip(
        "."
    )  # a full stop behind it is not of the number


def _name(text: str) -> str:
    """lighteval's from HELM, which leaves nothing of an answer like A: that is compared as it stands."""
    from lighteval.metrics.normalizations import helm_normalizer

    return helm_normalizer(text) or text
