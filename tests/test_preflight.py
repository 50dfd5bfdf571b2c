"""Preflight: each thing that would go wrong is a line, all of them at once, and estimates can be overruled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmhpc import preflight
from llmhpc.files import write_json
from llmhpc.handoff import artifact
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plan

ROOT = Path(__file__).parents[1]
BIG = ["model=llama_1b", "stages.tokenizer.vocab_size=32768"]
MANY_SAVES = ["stages.train.schedule.steps=1000000000", "stages.train.checkpoint_every=1"]


@pytest.fixture
def findings(tmp_path):
    """What preflight says about a run below tmp_path."""

    def look(*overrides):
        cfg = compose([f"root={tmp_path}", *overrides])
        return preflight.check(cfg, plan(cfg))

    return look


@pytest.fixture
def step(tmp_path):
    """One planned step of a run below tmp_path."""

    def find(name, *overrides):
        steps = plan(compose([f"root={tmp_path}", *overrides]))
        return next(step for step in steps if step.name == name)

    return find


@pytest.fixture
def tokenized(step):
    """Seals the tokenize step with an index of so many training tokens."""

    def seal(tokens, vocab_size=4096):
        out = step("tokenize").out
        write_json(out / "tokens.json", {"vocab_size": vocab_size, "train": {"tokens": tokens}})
        write_json(out / artifact.MANIFEST, {"files": {"train/00000.ds": {"bytes": 2 * tokens}}})
        return out.name

    return seal


def launch(*overrides, cwd=ROOT):
    command = [sys.executable, "-m", "llmhpc.launch", *overrides]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)


def only(findings, *, estimate):
    (finding,) = findings
    assert finding.estimate is estimate
    assert "\n" not in finding.message
    return finding.message


def test_the_quickstart_has_no_finding(findings):
    assert findings() == []


def test_all_findings_come_at_once_and_nothing_is_written(tmp_path):
    root = tmp_path / "runs"
    wrong = ["stages.filter.rules.language.model=/not/there", "stages.dedup.method.language=th"]
    result = launch(f"root={root}", "stages.train.resources.nodes=2", *wrong, *MANY_SAVES)
    assert result.returncode == 2
    keys = [line.partition("=")[0] for line in result.stderr.splitlines()]
    assert list(dict.fromkeys(keys)) == [
        "llmhpc: stages.filter.rules.language.model",
        "llmhpc: stages.dedup.method.language",
        "llmhpc: root",
        "llmhpc: stages.train.resources.nodes",
    ]
    assert result.stdout == ""
    assert not root.exists()


def test_force_makes_warnings_of_estimates_only(tmp_path):
    dry = ["dry_run=true", f"root={tmp_path}", *MANY_SAVES]
    alone = launch(*dry)
    assert alone.returncode == 2
    assert "11 steps to run" in alone.stdout
    for line in alone.stderr.splitlines():
        assert line.startswith("llmhpc: root=")
        assert line.endswith("; or force=true")
    forced = launch(*dry, "force=true")
    assert forced.returncode == 0
    for line in forced.stderr.splitlines():
        assert line.startswith("llmhpc: warning: root=")
        assert "force=true" not in line
    error = launch(*dry, "force=true", "stages.dedup.method.language=th")
    assert error.returncode == 2
    assert "llmhpc: stages.dedup.method.language=th" in error.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_adds_up_tokens_bytes_and_files(tmp_path, tokenized):
    last = launch("dry_run=true", f"root={tmp_path}").stdout.splitlines()[-1]
    assert "trains on 819,200 tokens; writes about 0.4 GB in" in last
    tokenized(1_000_000)
    assert launch("dry_run=true", f"root={tmp_path}").stdout.splitlines()[-1].startswith("10 steps")


@pytest.mark.parametrize(
    ("overrides", "begin", "parts"),
    [
        (["cluster=slurm"], "resources.mem_gb=2: each of 2 processes takes about 33 GB (weights 4.2, ", "; 67, "),
        (["cluster=slurm", "stages.train.parallel.dp=1"], "resources.mem_gb=2: a process takes about 33 GB (", "; 34, parallel.recompute=true, a smaller"),
        (["stages.train.resources.gpus_per_node=2", "stages.train.resources.gpu_mem_gb=16"],
         "resources.gpu_mem_gb=16: a process takes about 20 GB (weights 4.2, gradients ", "parallel.zero_stage=1"),
    ],
)  # fmt: skip
def test_a_process_that_its_memory_does_not_hold(overrides, begin, parts, findings):
    found = findings("dry_run=true", *BIG, *overrides)
    message = only([f for f in found if "stages.train.resources" in f.message], estimate=True)
    assert message.startswith(f"stages.train.{begin}"), message
    assert parts in message
    assert message.endswith("parallel.micro_batch or more parallel.cp, tp or pp")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cluster=slurm"], "resources.mem_gb=2: a task takes about 4.9 GB; 5"),
        (["cluster=slurm", "stages.evaluate.resources.mem_gb=5"], ""),
        (["cluster=slurm", "stages.evaluate.dp=2"], "resources.mem_gb=2: a task takes about 9.7 GB; 10"),
        (["cluster=slurm", "stages.evaluate.dp=2", "stages.evaluate.resources.nodes=2"], "resources.mem_gb=2: a task takes about 4.9 GB; 5"),
        (["cluster=slurm", "stages.evaluate.tp=2", "stages.evaluate.dp=2"], "resources.mem_gb=2: a task takes about 11.1 GB; 12"),
        (["stages.evaluate.dp=64"], "resources: a task takes about 311.1 GB, this machine has "),
        (["stages.evaluate.resources={gpus_per_node: 1, gpu_mem_gb: 4, mem_gb: 9}"],
         "resources.gpu_mem_gb=4: a task takes about 6.2 GB of a GPU; a larger one, or more processes to a model"),
    ],
)  # fmt: skip
def test_an_evaluation_that_its_memory_does_not_hold(overrides, message, findings):
    found = findings("dry_run=true", *BIG, *overrides)
    mine = [f.message for f in found if f.message.startswith("stages.evaluate.resources")]
    assert [f"stages.evaluate.{message}" in one for one in mine] == [True] * bool(message), mine


def test_a_process_that_this_machine_does_not_hold(findings):
    wide = ["stages.train.schedule.sequence_length=4000000", "stages.train.parallel.recompute=true"]
    found = [f for f in findings(*BIG, *wide) if "GB are free" not in f.message]
    message = only(found, estimate=True)
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    assert message.startswith(
        "stages.train.parallel.micro_batch=4: each of 2 processes takes about "
    )
    assert f"), this machine has {here:.0f}; parallel.zero_stage=1, a smaller" in message


def test_tokens_that_do_not_fill_one_step(findings, tokenized):
    name = tokenized(1000)
    assert only(findings(), estimate=False) == (
        f"stages.train.schedule.global_batch=8: at most 3, {name} has 1,000 tokens and a sequence 256"
    )


def test_tokens_that_are_read_too_often(findings, tokenized):
    name = tokenized(100_000)
    message = only(findings(), estimate=True)
    assert message.startswith(
        f"stages.train.schedule.steps=400: 8.2 times through the 100,000 tokens of {name}; at most 195"
    )
    tokenized(300_000)
    assert findings() == []


def test_a_tokenizer_with_fewer_tokens_than_the_model(findings, tokenized):
    name = tokenized(1_000_000, vocab_size=5000)
    message = only(findings(), estimate=False)
    assert message == f"stages.train.model.vocab_size=4096: 5000 or more, as {name} has"


def test_checkpoints_that_come_after_the_end_of_the_job(findings, step):
    earlier = step("train", "stages.train.schedule.lr=2e-3")
    artifact.order(earlier)
    lines = [{"step": n, "seconds": 60.0 * n} for n in (1, 2, 3)]
    log = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "sec'
    (earlier.out / "metrics.jsonl").write_text(log)
    assert only(findings(), estimate=True) == (
        f"stages.train.checkpoint_every=100: 100.0 min at 60 s a step ({earlier.out.name}),"
        " resources.timeout_min=60; at most 54"
    )
    assert earlier.stage.expected_seconds(earlier.out) == 400 * 60  # by which links are counted
    assert findings("stages.train.checkpoint_every=54") == []
    assert findings("stages.train.parallel.micro_batch=2") == []  # another layout has another speed


def test_more_bytes_than_are_free(findings):
    found = [f for f in findings(*MANY_SAVES) if "GB are free" in f.message]
    message = only(found, estimate=True)
    assert "GB are free there, the steps will write about 64,0" in message


def test_more_files_than_fit(findings, tmp_path):
    if not os.statvfs(tmp_path).f_files:
        pytest.skip("this file system does not count files")
    found = [f for f in findings(*MANY_SAVES) if "more files" in f.message]
    message = only(found, estimate=True)
    assert "more files fit there, the steps will write about 10,000,000," in message


def test_disk_counts_what_a_source_will_give(tmp_path):
    crawl = tmp_path / "crawl.warc.gz"
    with crawl.open("wb") as file:
        file.truncate(10**9)  # a hole: it takes no room here
    words = ["stage/collect@stages.collect=warc", "stage/filter@stages.filter=web"]
    words += ["stages.collect.ranks=1", "model=llama_tiny", "stages.tokenizer.vocab_size=512"]
    steps = plan(compose([f"root={tmp_path}", *words, f"stages.collect.source.paths=[{crawl}]"]))
    collect, filtered = (preflight.footprint(steps[:n]).bytes for n in (1, 2))
    assert (collect, filtered) == (10**9, 2 * 10**9)
    dump = [
        "stage/collect@stages.collect=commoncrawl",
        "stages.collect.source.dump=CC-MAIN-2024-10",
    ]
    steps = plan(compose([f"root={tmp_path}", *dump, *words[1:], "stages.collect.source.files=16"]))
    assert preflight.footprint(steps[:1]).bytes == 16 * 10**9


def test_a_root_that_is_a_file_or_cannot_be_written(findings, tmp_path):
    (tmp_path / "taken").write_text("")
    message = only(findings(f"root={tmp_path}/taken/runs"), estimate=False)
    assert message == (
        f"root={tmp_path}/taken/runs: {tmp_path}/taken is a file; a folder that every node sees"
    )
    message = only(findings("root=/proc/runs"), estimate=False)
    assert message.startswith("root=/proc/runs: /proc cannot be written (")


def test_what_one_machine_or_one_process_cannot_be(findings):
    message = only(findings("stages.train.resources.nodes=2"), estimate=False)
    assert message == "stages.train.resources.nodes=2: 1 on cluster.executor=local"
    message = only(findings("cluster=debug"), estimate=False)
    assert message == (
        "cluster.executor=debug: stages.train is made of 2 processes and debug is one; local or slurm"
    )


def test_slurm_where_there_is_none(findings, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = only(findings("cluster=slurm"), estimate=False)
    assert message.startswith("cluster.executor=slurm: there is no sbatch here; cluster=local runs")


@pytest.mark.parametrize(
    ("language", "words"),
    [("th", "pythainlp"), ("ko", "kiwipiepy"), ("klingon", "ISO 639-1 or 639-3, as in en or deu")],
)
def test_a_language_whose_words_cannot_be_split_here(language, words, findings):
    message = only(findings(f"stages.dedup.method.language={language}"), estimate=False)
    assert message.startswith(f"stages.dedup.method.language={language}: ")
    assert words in message


def test_languages_are_those_that_datatrove_splits():
    from datatrove.utils.word_tokenizers import load_tokenizer_assignments

    from llmhpc.dedup.language import tokenizers

    theirs = {name: maker.args for name, maker in load_tokenizer_assignments().items()}
    assert tokenizers() == theirs
