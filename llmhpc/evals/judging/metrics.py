"""What is computed of answers: lighteval's metrics, and those that it lacks, for each form of question."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from lighteval.metrics.metrics_corpus import CorpusLevelPerplexityMetric
from lighteval.metrics.metrics_sample import LoglikelihoodAcc
from lighteval.metrics.normalizations import (
    LogProbCharNorm,
    LogProbNormalization,
    LogProbPMINorm,
    LogProbTokenNorm,
    normalize_log_probs,
)
from lighteval.metrics.sample_preparator import PerplexityPreparator, TargetPerplexityPreparator
from lighteval.metrics.utils.metric_utils import CorpusLevelMetric, Metric, SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.requests import Doc, SamplingMethod
from lighteval.utils.utils import as_list

from llmhpc.evals.items import METRICS, NEED_ALONE, Form
from llmhpc.evals.judging.answers import RightAnswers

# How the likelihoods of choices are made comparable: the values of which the greatest is the prediction.
Scale = Callable[[Doc, ModelResponse], Sequence[float]]


def _lighteval(normalization: LogProbNormalization | None) -> Callable[..., Sequence[float]]:
    def values(doc: Doc, response: ModelResponse) -> Sequence[float]:
        count = len(doc.choices)
        given, alone = response.logprobs[:count], response.logprobs[count : 2 * count]
        if normalization is None:
            return given
        tokens = response.output_tokens[:count]
        return normalize_log_probs(normalization, given, alone, doc.choices, tokens)

    return values


def _per_byte(doc: Doc, response: ModelResponse) -> Sequence[float]:
    """Log-likelihood by UTF-8 bytes: the same for any tokenizer and for any script."""
    given = response.logprobs[: len(doc.choices)]
    return [value / len(c.encode()) for value, c in zip(given, doc.choices, strict=True)]


def _gain_per_byte(doc: Doc, response: ModelResponse) -> Sequence[float]:
    """What the context adds to the likelihood of each choice, in nats per byte.

    (log p(choice | context) - log p(choice)) / bytes: the pointwise mutual information of T. Brown et al.,
    Language Models are Few-Shot Learners (arXiv:2005.14165), section 2.4, with a length norm.
    """
    count = len(doc.choices)
    given, alone = response.logprobs[:count], response.logprobs[count : 2 * count]
    return [
        (with_context - without) / len(choice.encode())
        for with_context, without, choice in zip(given, alone, doc.choices, strict=True)
    ]


SCALES = {
    "acc": _lighteval(None),
    "acc_norm": _lighteval(LogProbCharNorm()),
    "acc_norm_token": _lighteval(LogProbTokenNorm()),
    "acc_norm_byte": _per_byte,
    "acc_norm_pmi": _lighteval(LogProbPMINorm()),
    "acc_norm_pmi_byte": _gain_per_byte,
}


def prediction(metric: str, doc: Doc, response: ModelResponse) -> int | None:
    """The choice that a metric takes for the model's answer; None for metrics that do not choose."""
    return int(np.argmax(SCALES[metric](doc, response))) if metric in SCALES else None


class Chosen(LoglikelihoodAcc):
    """1 where the choice with the greatest value is a right one, else 0; the values are of ``scale``."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def compute(self, doc: Doc, model_response: ModelResponse, **_: Any) -> int:
        """Of one item."""
        best = int(np.argmax(self.scale(doc, model_response)))
        return int(best in as_list(doc.gold_index))


class Greedy(LoglikelihoodAcc):
    """1 where greedy decoding gives the target, else 0."""

    def compute(self, doc: Doc, model_response: ModelResponse, **_: Any) -> int:
        """Of one item."""
        return int(
            any(model_response.argmax_logits_eq_gold[gold] for gold in as_list(doc.gold_index))
        )


class _TokenCount(PerplexityPreparator):
    """Weighs a text by its tokens: what a model card calls perplexity, comparable for one tokenizer only."""

    def __init__(self) -> None:
        super().__init__("bytes")

    def prepare(self, doc: Doc, model_response: ModelResponse, **_: Any) -> Any:
        prepared = super().prepare(doc, model_response)
        prepared.weights = sum(map(len, model_response.output_tokens))
        return prepared


def of(form: Form, has_alone: bool, headline: str = "", answer: str = "") -> list[Metric]:
    """The metrics of a form, the one that stands for the task first; ``answer`` as in ``Writing``.

    Raises:
        ValueError: the form has no metric ``headline``, or the items not what it needs.
    """
    names = [name for name in METRICS[form] if has_alone or name not in NEED_ALONE]
    first = headline or names[0]
    names.remove(first)
    return [_metric(form, name, answer) for name in (first, *names)]


def _metric(form: Form, name: str, answer: str) -> Metric:
    if name in PERPLEXITIES:
        return _perplexity(name)
    if form is Form.target:
        return _mean(name, Greedy(), SamplingMethod.LOGPROBS)
    if form is Form.written:
        return _mean(name, RightAnswers(answer), SamplingMethod.GENERATIVE)
    return _chosen(name)


def _chosen(name: str) -> Metric:
    return _mean(name, Chosen(SCALES[name]), SamplingMethod.LOGPROBS)


def _mean(name: str, sample: Any, category: SamplingMethod) -> Metric:
    return SampleLevelMetric(
        metric_name=name,
        sample_level_fn=sample,
        category=category,
        corpus_level_fn=np.mean,
        higher_is_better=True,
    )


PERPLEXITIES = {
    "bits_per_byte": (PerplexityPreparator("bytes"), "bits_per_byte"),
    "byte_perplexity": (PerplexityPreparator("bytes"), "weighted_perplexity"),
    "word_perplexity": (PerplexityPreparator("words"), "weighted_perplexity"),
    "token_perplexity": (_TokenCount(), "weighted_perplexity"),
    "target_perplexity": (TargetPerplexityPreparator("words"), "perplexity"),
}


def _perplexity(name: str) -> Metric:
    prepare, kind = PERPLEXITIES[name]
    return CorpusLevelMetric(
        metric_name=name,
        sample_level_fn=prepare,
        category=SamplingMethod.PERPLEXITY,
        corpus_level_fn=CorpusLevelPerplexityMetric(kind),
        higher_is_better=False,
    )


def share(metric: str, value: Any) -> tuple[float, float] | None:
    """What an item adds to numerator and denominator of a score; None for scores that are no ratio of sums."""
    if metric == "bits_per_byte":
        return -float(value.logprobs) / math.log(2), float(value.weights)
    return None if metric in PERPLEXITIES else (float(value), 1.0)
