import json
import math
import re
import shutil
import socket
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.evals.models import exports
from llmhpc.evals.tasks import continuation, heldout, pairs
from llmhpc.files import sha256, write_json
from llmhpc.handoff import artifact, provenance
from llmhpc.jobs.evaluate import Config, run
from llmhpc.task import Task

TASKS = {
    "continuation": continuation.Config(
        items=80, items_min=40, context_bytes=60, continuation_bytes=40
    ),
    "heldout": heldout.Config(),
}
STEPS = ("000000", "000030", "000120")
KEYS = (
    "step tokens checkpoint task form metric value stderr chance items truncated higher_is_better"
    " headline"
)


def evaluate(train: Path, tokens: Path, home: Path, tasks=TASKS, **settings):
    out = home / "out"
    out.mkdir(parents=True)
    cfg = Config(tasks=tasks, **settings)
    task = Task(phase="main", rank=0, ranks=1, seed=0, home=home)
    return told(run(cfg, {"model": train, "tokens": tokens}, out, task), out)


def told(counts: dict, out: Path):
    lines = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    return counts, lines, pq.read_table(out / "items").to_pylist(), out


def files_of(out: Path) -> dict[str, bytes]:
    paths = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module", autouse=True)
def network():
    """Refuses every look-up of a host, and sees at the end that none was tried."""
    attempts = []

    def refuse(host, *args, **kwargs):
        attempts.append(host)
        raise OSError(f"no network for {host}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        yield
    assert attempts == []


@pytest.fixture(scope="module")
def results(train_step, tokens_step, tmp_path_factory):
    return evaluate(train_step, tokens_step, tmp_path_factory.mktemp("evaluate"))


def value(lines, step, metric):
    return next(line for line in lines if line["step"] == step and line["metric"] == metric)


def test_scores_rise_over_the_checkpoints_and_end_above_chance(results):
    counts, lines, _, _ = results
    accuracy = [value(lines, step, "acc_norm_pmi_byte") for step in (0, 30, 120)]
    assert accuracy[0]["value"] < accuracy[2]["value"]
    assert accuracy[2]["value"] > 0.25 + 2 * accuracy[2]["stderr"]
    bits = [value(lines, step, "bits_per_byte")["value"] for step in (0, 30, 120)]
    assert bits == sorted(bits, reverse=True)
    assert counts == {
        "checkpoints": 3,
        "items": 104,
        "prompts_truncated": 0,
        "final": {"continuation.cloze": accuracy[2]["value"], "heldout.text": bits[2]},
    }


def test_there_is_a_line_for_each_checkpoint_task_and_metric(results):
    _, lines, _, _ = results
    assert [list(line) for line in lines] == [KEYS.split()] * 30
    assert [line["task"] for line in lines[:10]] == ["continuation"] * 6 + ["heldout"] * 4
    first = {line["metric"] for line in lines if line["headline"]}
    assert first == {"acc_norm_pmi_byte", "bits_per_byte"}
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert {(line["chance"], line["higher_is_better"], line["items"]) for line in lines} == {
        (0.25, True, 80),
        (None, False, 24),
    }


def test_metrics_equal_the_values_computed_again_from_the_items(results):
    _, lines, items, out = results
    texts = (out / "tasks" / "heldout" / "text.jsonl").read_text().splitlines()
    words = sum(len(re.split(r"\s+", json.loads(text)["choices"][0])) for text in texts)
    rows = defaultdict(list)
    for item in items:
        rows[item["step"], item["task"]].append(item)

    def accuracy(step, score):
        right = 0
        for item in rows[step, "continuation"]:
            scores = [score(item, place) for place in range(4)]
            right += scores.index(max(scores)) in item["gold"]
        return right / len(rows[step, "continuation"])

    gain = lambda item, n: item["logprobs"][n] - item["unconditioned"][n]
    by_hand = {
        "acc_norm_byte": lambda item, n: item["logprobs"][n] / item["bytes"][n],
        "acc_norm_pmi": gain,
        "acc_norm_pmi_byte": lambda item, n: gain(item, n) / item["bytes"][n],
        "acc": lambda item, n: item["logprobs"][n],
        "acc_norm": lambda item, n: item["logprobs"][n] / item["characters"][n],
        "acc_norm_token": lambda item, n: item["logprobs"][n] / item["tokens_scored"][n],
    }
    for line in lines:
        mine = rows[line["step"], line["task"]]
        if line["metric"] in by_hand:
            again = accuracy(line["step"], by_hand[line["metric"]])
        else:
            nats = -sum(sum(item["logprobs"]) for item in mine)  # of each window
            sizes = sum(item["bytes"][0] for item in mine)
            if line["metric"] == "bits_per_byte":
                again = nats / math.log(2) / sizes
            elif line["metric"] == "byte_perplexity":
                again = math.exp(nats / sizes)
            elif line["metric"] == "token_perplexity":
                again = math.exp(nats / sum(item["tokens_scored"][0] for item in mine))
            else:
                again = math.exp(nats / words)
        assert line["value"] == pytest.approx(again, rel=1e-9), line
        assert len(mine) == line["items"]
    for item in rows[120, "continuation"]:
        assert item["correct"] == (item["prediction"] in item["gold"])
        assert (item["y"], item["x"]) == (item["correct"], 1)
    right = [item["correct"] for item in rows[120, "continuation"]]
    assert value(lines, 120, "acc_norm_pmi_byte")["value"] == pytest.approx(sum(right) / len(right))


def test_bits_per_byte_equal_a_plain_loop(results, train_step, tokens_step):
    _, lines, _, out = results
    export = exports.find_exports(train_step)[-1]
    checkpoint = exports.load(export)
    bits = size = 0
    for row in (out / "tasks" / "heldout" / "text.jsonl").read_text().splitlines():
        text = json.loads(row)["choices"][0]
        tokens = [0, *checkpoint.tokenizer.encode(text, add_special_tokens=False)]
        for start in range(0, len(tokens) - 1, 128):
            window = torch.tensor([tokens[start : start + 129]])
            with torch.inference_mode():
                logprobs = checkpoint.model(window[:, :-1]).logits.log_softmax(-1)
            bits -= logprobs.gather(2, window[:, 1:, None]).double().sum().item() / math.log(2)
        size += len(text.encode())
    assert value(lines, 120, "bits_per_byte")["value"] == pytest.approx(bits / size, rel=1e-6)


def test_a_choice_is_scored_as_in_a_plain_loop(results, train_step):
    _, _, items, out = results
    checkpoint = exports.load(exports.find_exports(train_step)[0])
    row = json.loads((out / "tasks" / "continuation" / "cloze.jsonl").read_text().splitlines()[7])
    item = next(i for i in items if i["step"] == 0 and i["item"] == row["id"])
    for choice, wanted in zip(row["choices"], item["logprobs"], strict=True):
        context, ids = ([*checkpoint.tokenizer.encode(text)] for text in (row["prompt"], choice))
        with torch.inference_mode():
            logits = checkpoint.model(torch.tensor([[0, *context, *ids]])).logits[0]
        logprobs = logits[-len(ids) - 1 : -1].log_softmax(-1)
        assert logprobs.gather(1, torch.tensor(ids)[:, None]).sum().item() == pytest.approx(
            wanted, abs=1e-4
        )


def test_new_weights_at_an_old_path_get_new_scores_and_nothing_is_left_in_the_checkpoint(
    results, train_step, tokens_step, tmp_path
):
    _, lines, _, _ = results
    shutil.copytree(train_step, tmp_path / "train")
    weights = [tmp_path / "train" / "exports" / name / "model.safetensors" for name in STEPS]
    files = sorted((tmp_path / "train").rglob("*"))
    weights[0].write_bytes(weights[2].read_bytes())
    _, again, _, _ = evaluate(tmp_path / "train", tokens_step, tmp_path / "again")
    for first, second in zip(lines, again, strict=True):
        if first["step"] != 0:
            assert second == first
        elif first["metric"] == "bits_per_byte":
            assert second["value"] == value(lines, 120, "bits_per_byte")["value"]
    assert sorted((tmp_path / "train").rglob("*")) == files


def test_a_second_run_writes_the_same_bytes(results, train_step, tokens_step, tmp_path):
    again = evaluate(train_step, tokens_step, tmp_path, batch_tokens=1024)[3]
    assert files_of(again) == files_of(results[3])


def test_scores_do_not_depend_on_the_batch_size_of_the_stage(
    results, train_step, tokens_step, tmp_path
):
    items = evaluate(train_step, tokens_step, tmp_path, batch_tokens=300)[2]
    for first, second in zip(results[2], items, strict=True):
        assert second["logprobs"] == pytest.approx(first["logprobs"], abs=1e-5, rel=1e-6)
        assert second["unconditioned"] == pytest.approx(first["unconditioned"], abs=1e-5, rel=1e-6)


def test_an_array_over_checkpoints_and_tasks_writes_the_same_bytes(
    results, train_step, tokens_step, tmp_path
):
    cfg = Config(tasks=TASKS, ranks=4)
    inputs = {"model": train_step, "tokens": tokens_step}
    for phase, ranks in cfg.phases():
        for rank in reversed(range(ranks)):
            out = tmp_path / "scratch" / f"{phase}-{rank}"
            out.mkdir(parents=True)
            task = Task(phase=phase, rank=rank, ranks=ranks, seed=0, home=tmp_path)
            counts = run(cfg, inputs, out, task)
            if phase == "ask":
                (out / "tasks").rename(tmp_path / "tasks")
            assert (counts == {}) == (phase != "gather")
    assert counts == results[0]
    files = files_of(out) | {f"tasks/{n}": b for n, b in files_of(tmp_path / "tasks").items()}
    assert files == files_of(results[3])


def test_only_the_files_of_the_artifact_are_written(results):
    assert sorted(files_of(results[3])) == [
        "items/000000.parquet",
        "items/000030.parquet",
        "items/000120.parquet",
        "model_index.yaml",
        "scores.jsonl",
        "scores.md",
        "scores/000000.json",
        "scores/000030.json",
        "scores/000120.json",
        "tasks/continuation/cloze.json",
        "tasks/continuation/cloze.jsonl",
        "tasks/heldout/text.json",
        "tasks/heldout/text.jsonl",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: continuation.Config(items=30), "items_min=40: items=30 or fewer"),
        (lambda: heldout.Config(bytes=0), "bytes=0: 1 or more"),
        (lambda: heldout.Config(metric="acc"), "metric=acc: bits_per_byte, byte_perplexity, word"),
        (lambda: Config(tasks=TASKS, ranks=0), "ranks=0: 1 or more"),
        (Config, "tasks: at least one"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_metric_that_items_cannot_give_is_refused(train_step, tokens_step, tmp_path):
    rows = [{"good": "A word.", "bad": "Word a."}, {"good": "One more.", "bad": "More one."}]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "test.jsonl").write_text("".join(lines))
    task = pairs.Config(data_dir=str(tmp_path), metric="acc_norm_pmi")
    cfg = Config(tasks={"mine": task})
    with pytest.raises(ConfigError, match=r"tasks\.mine\.metric=acc_norm_pmi: another one, its it"):
        run(
            cfg,
            {"model": train_step, "tokens": tokens_step},
            tmp_path,
            Task(phase="main", rank=0, ranks=1, seed=0, home=tmp_path),
        )


def test_a_second_start_asks_only_what_the_first_left(
    results, train_step, tokens_step, tmp_path, monkeypatch
):
    from llmhpc.evals import answering

    asked = []
    real = answering.respond

    def respond(model, unit, progress):
        if len(asked) == 3:
            asked.clear()
            raise KeyboardInterrupt
        asked.append((model.scorer.model.name_or_path, unit.task))
        return real(model, unit, progress)

    monkeypatch.setattr(answering, "respond", respond)
    with pytest.raises(KeyboardInterrupt):
        evaluate(train_step, tokens_step, tmp_path)
    shutil.rmtree(tmp_path / "out")
    *_, out = evaluate(train_step, tokens_step, tmp_path)
    names = [str(export.folder) for export in exports.find_exports(train_step)]
    assert asked == [(names[1], "heldout"), (names[2], "continuation"), (names[2], "heldout")]
    assert files_of(out) == files_of(results[3])


def test_answers_that_are_not_there_are_named(train_step, tokens_step, tmp_path):
    cfg = Config(tasks=TASKS, ranks=2)
    inputs = {"model": train_step, "tokens": tokens_step}
    run(cfg, inputs, tmp_path, Task(phase="ask", rank=0, ranks=1, seed=0, home=tmp_path))
    with pytest.raises(
        ArtifactError, match=r"continuation\.cloze-\w{16}\.json: not there; a rank has not"
    ):
        run(cfg, inputs, tmp_path, Task(phase="gather", rank=0, ranks=1, seed=0, home=tmp_path))


def test_scores_of_an_earlier_look_are_kept_and_change_nothing(
    results, train_step, tokens_step, tmp_path, monkeypatch
):
    from llmhpc.evals import answering

    so_far = tmp_path / "train"
    shutil.copytree(train_step, so_far)
    listed = json.loads((train_step / "exports.json").read_text())
    (so_far / "exports.json").write_text(json.dumps(listed[:2]))
    home = tmp_path / "evaluate"
    counts, *_ = evaluate(so_far, tokens_step, home)
    assert counts["checkpoints"] == 2
    shutil.rmtree(home / "out")

    scored = []
    real = answering.respond
    monkeypatch.setattr(
        answering,
        "respond",
        lambda model, *rest: scored.append(model.scorer.model.name_or_path) or real(model, *rest),
    )
    *_, out = evaluate(train_step, tokens_step, home)
    assert scored == [str(train_step / listed[2]["path"])] * 2
    assert files_of(out) == files_of(results[3])


@pytest.fixture
def sealed_beside(results, tmp_path):
    """A root in which a sealed step has the answers of ``results``."""
    home = tmp_path / "evaluate-0"
    shutil.copytree(results[3], home)
    seal(home, provenance.versions())
    return home


def seal(home: Path, versions: dict[str, str]) -> None:
    files = {
        name: {"bytes": len(content), "sha256": sha256(home / name)}
        for name, content in files_of(home).items()
    }
    write_json(home / artifact.MANIFEST, {"versions": versions, "files": files})


def test_a_task_more_asks_only_its_own_items(
    results, sealed_beside, train_step, tokens_step, tmp_path, monkeypatch
):
    from llmhpc.evals import answering

    asked = []
    real = answering.respond
    monkeypatch.setattr(
        answering,
        "respond",
        lambda model, unit, *rest: asked.append(unit.task) or real(model, unit, *rest),
    )
    more = TASKS | {"less": heldout.Config(bytes=3000)}
    _, lines, items, out = evaluate(train_step, tokens_step, tmp_path / "evaluate-1", tasks=more)
    assert asked == ["less"] * 3
    assert [line for line in lines if line["task"] != "less"] == results[1]
    assert [item for item in items if item["task"] != "less"] == results[2]
    assert len(items) > len(results[2])
    once_more = evaluate(train_step, tokens_step, tmp_path / "evaluate-2", tasks=more)[3]
    assert asked == ["less"] * 6  # evaluate-1 is not sealed
    assert files_of(once_more) == files_of(out)


@pytest.mark.parametrize(
    "change",
    {
        "not sealed": lambda home, train: (home / artifact.MANIFEST).unlink(),
        "other packages": lambda home, train: seal(home, provenance.versions() | {"torch": "1.0"}),
        "damaged": lambda home, train: (
            (home / "items" / f"{STEPS[0]}.parquet").open("a").write(" ")
        ),
        "edited": lambda home, train: replace_in(
            home / "scores" / f"{STEPS[0]}.json", '"items": 80', '"items": 81'
        ),
        "another tokenizer": lambda home, train: (
            (train / "exports" / STEPS[0] / "tokenizer.json").open("a").write(" ")
        ),
        "another shape": lambda home, train: (
            (train / "exports" / STEPS[0] / "config.json").open("a").write(" ")
        ),
        "on a GPU": lambda home, train: replace_and_seal(home, '"cpu"', '"cuda"'),
        "other questions": lambda home, train: replace_and_seal(home, '"hash": "', '"hash": "0'),
    }.items(),
    ids=lambda change: change[0],
)
def test_answers_are_not_taken_from(
    change, sealed_beside, train_step, tokens_step, tmp_path, monkeypatch
):
    from llmhpc.evals import answering

    def respond(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(answering, "respond", respond)
    train = tmp_path / "train"
    shutil.copytree(train_step, train)
    evaluate(train, tokens_step, tmp_path / "evaluate-1")  # nothing is asked
    change[1](sealed_beside, train)
    with pytest.raises(KeyboardInterrupt):
        evaluate(train, tokens_step, tmp_path / "evaluate-2")


def replace_and_seal(home: Path, old: str, new: str) -> None:
    replace_in(home / "scores" / f"{STEPS[0]}.json", old, new)
    (home / artifact.MANIFEST).unlink()
    seal(home, provenance.versions())


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
