"""The tasks and the metric of the pipeline's own held-out documents, in lighteval's terms."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from lighteval.metrics.dynamic_metrics import LogLikelihoodAccMetric
from lighteval.metrics.metrics import Metrics
from lighteval.metrics.metrics_sample import SampleLevelComputation
from lighteval.metrics.normalizations import LogProbCharNorm, LogProbTokenNorm
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from llmhpc.evals.results import SPLIT


def gain_per_byte(doc: Doc, response: ModelResponse) -> list[float]:
    """What the context adds to the likelihood of each choice, in nats per byte.

    (log p(choice | context) - log p(choice)) / bytes: the pointwise mutual information of T. Brown et al.,
    Language Models are Few-Shot Learners (arXiv:2005.14165), section 2.4, with a length norm.
    """
    choices = len(doc.choices)
    given, alone = response.logprobs[:choices], response.logprobs[choices : 2 * choices]
    return [
        (with_context - without) / len(choice.encode())
        for with_context, without, choice in zip(given, alone, doc.choices, strict=True)
    ]


class GainAccuracy(SampleLevelComputation):
    """1 where the context adds most, per byte, to the right choice; else 0."""

    def compute(self, doc: Doc, model_response: ModelResponse, **kwargs: Any) -> int:
        """Of one item."""
        gains = gain_per_byte(doc, model_response)
        return int(gains.index(max(gains)) == doc.gold_index)


ACC_NORM_PMI_BYTE = SampleLevelMetric(
    metric_name="acc_norm_pmi_byte",
    sample_level_fn=GainAccuracy(),
    category=SamplingMethod.LOGPROBS,
    corpus_level_fn=np.mean,
    higher_is_better=True,
)


def continuation_doc(row: dict[str, Any], task_name: str) -> Doc:
    """A row of ``continuation.make_items`` as a question in continuation form."""
    return Doc(
        task_name=task_name,
        query=row["context"],
        choices=row["choices"],
        gold_index=row["gold"],
        unconditioned_query="",
        specific={"id": row["id"], "document": row["document"], "group": row["group"]},
    )


def heldout_doc(row: dict[str, Any], task_name: str) -> Doc:
    """A held-out document as a text whose likelihood is asked for."""
    return Doc(
        task_name=task_name,
        query="",
        original_query=row["text"],
        choices=[row["text"]],  # lighteval's perplexity tasks fail without
        gold_index=0,
        specific={"id": row["id"], "document": row["id"], "group": row["id"]},
    )


def task_module(folder: Path) -> ModuleType:
    """What lighteval calls a custom tasks module, for the data folders below ``folder``."""
    module = ModuleType("llmhpc_tasks")
    module.TASKS_TABLE = [  # type: ignore[attr-defined]
        _task("heldout", heldout_doc, folder, [Metrics.bits_per_byte]),
        _task(
            "continuation",
            continuation_doc,
            folder,
            [
                ACC_NORM_PMI_BYTE,
                LogLikelihoodAccMetric(),
                LogLikelihoodAccMetric(LogProbCharNorm()),
                LogLikelihoodAccMetric(LogProbTokenNorm()),
            ],
        ),
    ]
    return module


def _task(
    name: str, prompt: Callable[[dict[str, Any], str], Doc], folder: Path, metrics: list[Any]
) -> LightevalTaskConfig:
    return LightevalTaskConfig(
        name=name,
        prompt_function=prompt,
        hf_repo=str((folder / name).resolve()),
        hf_subset="default",
        hf_avail_splits=[SPLIT],
        evaluation_splits=[SPLIT],
        few_shots_split=SPLIT,
        metrics=metrics,
    )
