import json
import random
import shutil
from types import ModuleType

import numpy as np
import pytest
import torch

from llmhpc.errors import StageError
from llmhpc.evals.items import Writing
from llmhpc.evals.models import engine, exports
from llmhpc.evals.models.writing import Batch, Row, Writer

LENGTH = 128  # positions of the tiny model
PROMPTS = [
    "Bread butter",
    "Bread",
    "River stone tree leaf wind. Rain cloud hill valley river stone tree",
    "",
    "Violin drum flute piano choir singer melody chord tempo. " * 3,
    "Captain",
    "Needle thread cloth button",
]
GREEDY = Writing(max_tokens=24, stop=(".\n",))
SAMPLED = GREEDY._replace(temperature=1.0, samples=3, seed=5)


@pytest.fixture(scope="module")
def checkpoint(train_step):
    return exports.load(exports.find_exports(train_step)[-1])


@pytest.fixture(scope="module")
def texts(checkpoint):
    return Writer(checkpoint, 4096).write(PROMPTS, GREEDY)


@pytest.fixture(scope="module")
def samples(checkpoint):
    return Writer(checkpoint, 4096).write(PROMPTS, SAMPLED)


def plain(checkpoint, prompt, writing):
    """Greedy, one token after the other, everything computed anew."""
    ids = [0, *checkpoint.tokenizer.encode(prompt)]
    start = len(ids)
    for _ in range(writing.max_tokens):
        with torch.inference_mode():
            ids.append(checkpoint.model(torch.tensor([ids])).logits[0, -1].argmax().item())
        text = checkpoint.tokenizer.decode(ids[start:])
        stops = [text.index(stop) for stop in writing.stop if stop in text]
        if stops or ids[-1] == 0:
            return text[: min(stops)] if stops else checkpoint.tokenizer.decode(ids[start:-1])
    return text


def test_greedy_texts_equal_a_plain_loop(checkpoint, texts):
    assert texts == [[plain(checkpoint, prompt, GREEDY)] for prompt in PROMPTS]
    assert len({text for (text,) in texts}) > 4


@pytest.mark.parametrize(("batch_tokens", "writing"), [(1, GREEDY), (150, GREEDY), (150, SAMPLED)])
def test_texts_depend_neither_on_the_batch_size_nor_on_the_order(
    checkpoint, texts, samples, batch_tokens, writing
):
    order = random.Random(0).sample(range(len(PROMPTS)), len(PROMPTS))
    found = Writer(checkpoint, batch_tokens).write([PROMPTS[n] for n in order], writing)
    wanted = texts if writing == GREEDY else samples
    assert found == [wanted[n] for n in order]


def test_samples_differ_from_each_other_and_with_the_seed(checkpoint, samples):
    assert all(len(set(some)) == 3 for some in samples)
    again = Writer(checkpoint, 4096).write(PROMPTS[:2], SAMPLED._replace(seed=6))
    assert not {*again[0], *again[1]} & {*samples[0], *samples[1]}


def test_a_sample_is_the_same_however_many_there_are(checkpoint, samples):
    (first,) = Writer(checkpoint, 4096).write(PROMPTS[:1], SAMPLED._replace(samples=1))
    assert first == samples[0][:1]


def test_tokens_are_drawn_as_often_as_they_are_likely(checkpoint):
    count, temperature = 2000, 3.0
    rows = tuple(Row((0, 300), n) for n in range(count))
    writing = Writing(max_tokens=1, stop=(), temperature=temperature, samples=count)
    drawn = list(Writer(checkpoint, 4096).write_batch(Batch(rows, writing)).values())
    with torch.inference_mode():
        logits = checkpoint.model(torch.tensor([[0, 300]])).logits[0, -1]
    likely = (logits / temperature).softmax(-1)
    tokens = likely.topk(5).indices.tolist()
    for token in tokens:
        text, wanted = checkpoint.tokenizer.decode([token]), likely[token].item()
        error = (wanted * (1 - wanted) / count) ** 0.5
        assert drawn.count(text) / count == pytest.approx(wanted, abs=4 * error)
    assert 0.01 < likely[tokens[4]] and likely[tokens[0]] < 0.9


def test_a_stop_sequence_ends_a_text_wherever_tokens_end(checkpoint, texts):
    (text,) = texts[0]
    ids = checkpoint.tokenizer.encode(text)
    cut = len(checkpoint.tokenizer.decode(ids[:3]))
    for stop in (text[cut - 1 : cut + 1], text[cut - 2 : cut + 3], text[cut - 1]):
        writing = GREEDY._replace(stop=("never there", stop))
        (short,) = Writer(checkpoint, 4096).write(PROMPTS[:1], writing)
        assert short == [text[: text.index(stop)]]


def test_writing_ends_where_the_last_row_does(checkpoint, texts, monkeypatch):
    calls = []
    forward = checkpoint.model.forward
    monkeypatch.setattr(
        checkpoint.model, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k)
    )
    stop = texts[0][0][:1]
    Writer(checkpoint, 4096).write(PROMPTS[:1], GREEDY._replace(stop=(stop,)))
    assert len(calls) < 4


def test_the_end_of_a_document_ends_a_text(checkpoint):
    prompt = "Bread butter cheese. " * 4 + "Näh!"
    writing = Writing(max_tokens=8, stop=())
    assert Writer(checkpoint, 4096).write([prompt], writing) == [[""]]
    assert plain(checkpoint, prompt, writing) == ""


def test_a_prompt_that_is_too_long_loses_its_beginning_and_is_counted(checkpoint):
    writer = Writer(checkpoint, 4096)
    long = "Wheel engine brake road driver lorry bridge tunnel fuel. " * 12
    tokens, lost = writer.fit(long, GREEDY)
    whole = (0, *checkpoint.tokenizer.encode(long))
    assert tokens == whole[-(LENGTH - 24) :] and lost == len(whole) - len(tokens) > 0
    assert writer.fit("Bread", GREEDY)[1] == 0
    row = Row(tokens, 0)
    assert writer.write([long], GREEDY) == [[writer.write_batch(Batch((row,), GREEDY))[row]]]
    with pytest.raises(StageError, match="max_tokens=128: 127 or fewer, the model has 128"):
        writer.write(["Bread"], Writing(max_tokens=LENGTH))


def test_equal_prompts_are_written_once(checkpoint):
    writer = Writer(checkpoint, 4096)
    (batch,) = writer.plan(["Bread", "River", "Bread"], SAMPLED)
    assert len(batch.rows) == len(set(batch.rows)) == 6
    one, other, again = writer.write(["Bread", "River", "Bread"], SAMPLED)
    assert one == again != other


def test_batches_keep_to_their_budget_and_are_known_by_what_decides_their_texts(checkpoint):
    writer = Writer(checkpoint, 150)
    batches = writer.plan(PROMPTS, SAMPLED)
    assert sum(len(batch.rows) for batch in batches) == 3 * len(PROMPTS)
    assert all(batch.positions <= 150 or len(batch.rows) == 1 for batch in batches)
    assert len({batch.hash for batch in batches}) == len(batches)
    assert [b.hash for b in writer.plan(PROMPTS[::-1], SAMPLED)] == [b.hash for b in batches]
    first = batches[0]
    other_seed = first._replace(writing=SAMPLED._replace(seed=6))
    other_answer = first._replace(writing=SAMPLED._replace(answer="(x)"))
    assert other_seed.hash != first.hash == other_answer.hash


def test_progress_ends_at_one(checkpoint):
    seen: list[float] = []
    Writer(checkpoint, 150).write(PROMPTS, GREEDY._replace(max_tokens=2), seen.append)
    assert seen == sorted(seen) and len(seen) > 1 and seen[-1] == 1


def test_advice_for_talking_in_an_export_changes_nothing(train_step, checkpoint, texts, tmp_path):
    export = exports.find_exports(train_step)[-1]
    shutil.copytree(export.folder, tmp_path, dirs_exist_ok=True)
    advice = {"do_sample": True, "repetition_penalty": 3.0, "eos_token_id": [0, 2], "top_k": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(advice))
    advised = exports.load(export._replace(folder=tmp_path))
    assert Writer(advised, 4096).write(PROMPTS[:2], GREEDY) == texts[:2]
    assert Writer(advised, 4096).ends == [0, 2]


def lighteval_tasks(folder, texts, metric, **settings):
    """Two tasks of a custom module, by lighteval's name: write two prompts each, in a few or in many tokens."""
    from lighteval.tasks.lighteval_task import LightevalTaskConfig
    from lighteval.tasks.requests import Doc

    def asked(row, task_name):
        return Doc(task_name=task_name, query=row["prompt"], choices=[row["text"]], gold_index=0)

    (folder / "data").mkdir()
    rows = [{"prompt": p, "text": t[0]} for p, t in zip(PROMPTS[:2], texts, strict=False)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / "test.jsonl").write_text(lines)
    module = ModuleType("llmhpc_tasks")
    module.TASKS_TABLE = [
        LightevalTaskConfig(
            name=name,
            prompt_function=asked,
            hf_repo=str(folder / "data"),
            hf_subset="default",
            hf_avail_splits=["test"],
            evaluation_splits=["test"],
            few_shots_split="test",
            metrics=[metric],
            generation_size=size,
            stop_sequence=list(GREEDY.stop),
        )
        for name, size in settings.items()
    ]
    return module


@pytest.fixture
def through_lighteval(checkpoint, texts, tmp_path):
    """Runs lighteval's own pipeline on tasks, given as name=tokens: their scores, and the texts of each."""
    engine.prepare_pipeline(tmp_path / "cache")
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.metrics.metrics_sample import ExactMatches
    from lighteval.metrics.utils.metric_utils import SampleLevelMetric
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters
    from lighteval.tasks.requests import SamplingMethod
    from lighteval.utils.cache_management import SampleCache

    from llmhpc.evals.models.model import ScoringModel
    from llmhpc.evals.models.scoring import Scorer

    scorer, writer = Scorer(checkpoint.model, LENGTH, 4096), Writer(checkpoint, 4096)
    metric = SampleLevelMetric(
        metric_name="exact",
        sample_level_fn=ExactMatches(),
        category=SamplingMethod.GENERATIVE,
        corpus_level_fn=np.mean,
        higher_is_better=True,
    )

    def run(seen=lambda done: None, **tasks):
        model = ScoringModel(checkpoint, scorer, writer, seen)
        model.config.cache_dir = str(tmp_path)
        model._cache = SampleCache(
            model.config
        )  # the pipeline touches it even if nothing is cached
        pipeline = Pipeline(
            tasks=",".join(f"{task}|0" for task in tasks),
            pipeline_parameters=PipelineParameters(
                launcher_type=ParallelismManager.CUSTOM,
                custom_tasks_directory=lighteval_tasks(tmp_path, texts, metric, **tasks),
                bootstrap_iters=0,
            ),
            evaluation_tracker=EvaluationTracker(output_dir=str(tmp_path)),
            model=model,
        )
        pipeline.evaluate()
        details = pipeline.get_details()
        values = pipeline.evaluation_tracker.metrics_logger.metric_aggregated
        scores = {task: values[f"{task}|0"]["exact"] for task in tasks}
        return scores, {
            task: {d.doc.query: d.model_response.text for d in details[f"{task}|0"]}
            for task in tasks
        }

    return run


def test_lighteval_s_pipeline_gets_and_judges_the_same_texts(through_lighteval, texts):
    seen: list[int] = []
    scores, found = through_lighteval(seen.append, whole=GREEDY.max_tokens, part=4)
    assert found["whole"] == dict(zip(PROMPTS[:2], texts, strict=False))
    assert all(texts[n][0].startswith(found["part"][PROMPTS[n]][0]) for n in range(2))
    assert scores == {"whole": 1.0, "part": 0.0}
    assert seen[-1] == 4


def test_a_task_without_a_length_of_its_texts_is_refused(through_lighteval):
    with pytest.raises(StageError, match="task endless.*: generation_size=None"):
        through_lighteval(endless=None)


def test_the_stage_has_questions_answered_in_the_model_s_own_words(
    train_step, texts, tokens_step, tmp_path
):
    from llmhpc.evals.tasks import written
    from llmhpc.jobs.evaluate import Config, run
    from llmhpc.task import Task

    (tmp_path / "data").mkdir()
    rows = [
        {"prompt": PROMPTS[0], "answers": ["the" + texts[0][0].upper() + "!"]},
        {"prompt": PROMPTS[1], "answers": ["of this it does not write"]},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "data" / "test.jsonl").write_text(lines)
    task = written.Config(
        data_dir=str(tmp_path / "data"), max_tokens=GREEDY.max_tokens, stop=list(GREEDY.stop)
    )
    (tmp_path / "out").mkdir()
    counts = run(
        Config(tasks={"own_words": task}),
        {"model": train_step, "tokens": tokens_step},
        tmp_path / "out",
        Task(phase="main", rank=0, ranks=1, seed=0, home=tmp_path),
    )
    assert counts["final"] == {"own_words.written": 0.5}
