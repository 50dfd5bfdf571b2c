"""What a person meets at the command line: bad input is one line, status 2, and nothing is written."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plan

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "datatrove", "nanotron", "lighteval", "transformers", "numba")


def launch(*overrides: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "llmhpc.launch", *overrides]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["cluster=slrum"], ["cluster=slrum", "slurm"]),
        (["clutser=slurm"], ["clutser", "cluster"]),
        (["stages.filter.rules.gopher_quality.min_word=3"], ["min_word", "min_words"]),
        (["stages.filtre.ranks=3"], ["stages.filtre", "stages.filter"]),
        (["+stages.filter.rankz=3"], ["rankz", "ranks"]),
        (["stages.filter.ranks=many"], ["stages.filter.ranks=many", "Integer"]),
        (["stages.filter.ranks=0"], ["stages.filter.ranks=0", "1 or more"]),
        (["seed=x"], ["seed=x", "Integer"]),
        (["stages.collect.needs={pages: report}"], ["circle", "collect -> report"]),
        (["stages.dedup.needs.documents=shuffle"], ["circle", "dedup", "shuffle"]),
        (["stages.train.parallel.tp=3"], ["tp=3", "heads"]),
        (["stages.train.model.vocab_size=5000"], ["vocab_size", "5000", "4096"]),
        (["stages.tokenizer.vocab_size=70000", "stages.train.model.vocab_size=70000",
          "stages.tokenize.dtype=uint16"], ["dtype", "uint16", "uint32"]),
        (["stages.train.parallel.dp=4", "stages.train.parallel.micro_batch=1", "stages.train.resources.nodes=3", "cluster=slurm"],
         ["nodes", "3", "4"]),
        (["stages.evaluate.dp=3", "stages.evaluate.resources.nodes=2", "cluster=slurm"],
         ["stages.evaluate.resources.nodes=2", "dp x tp = 3 x 1 = 3"]),
        (["stages.evaluate.dp=2", "stages.evaluate.resources.gpus_per_node=1"],
         ["stages.evaluate.resources.gpus_per_node=1: 2, one for each process"]),
        (["stages.evaluate.dp=2", "stages.evaluate.ranks=2"], ["stages.evaluate.ranks=2: 1, with dp=2"]),
        (["stages.evaluate.tp=3"], ["stages.evaluate.tp=3", "a divisor of the model's kv_heads="]),
        (["stages.train.resources.nodes=2"], ["stages.train.resources.nodes=2", "local"]),
        (["stage/collect@stages.collect=html"], ["stages.collect.source.folder is not set"]),
        (["a b"], ["a b", "key=value"]),
        (["name=a\nb"], ["'name=a\\nb'", "key=value"]),
        (["cluster.slurm=3"], ["cluster.slurm=3", "Dict"]),
        (["stages.train.schedule.sequence_length=64"],
         ["stages.evaluate.tasks.continuation.continuation_bytes=64", "32 or less", "sequence_length=64"]),
        (["name='$(touch x)'"], ["name='$(touch x)'", "letters"]),
        (["root='a%j'"], ["root='a%j'", "without %"]),
        (["model=llama_7b"], ["model=llama_7b", "llama_8b"]),
        (["cluster.executor=pbs"], ["cluster.executor=pbs", "slurm"]),
        (["root=/proc/nothing"], ["root=/proc/nothing", "cannot be written"]),
        (["root=/etc/passwd/x"], ["root=/etc/passwd/x", "is a file"]),
        (["stage/collect@stages.collect=html", "stages.collect.source.folder=/not/there"],
         ["/not/there", "source.folder"]),
        (["stage/collect@stages.collect=warc", "stages.collect.source.paths=[/not/there.warc.gz]"],
         ["/not/there.warc.gz", "source.paths"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, overrides, words):
    if not any(o.startswith("root=") for o in overrides):
        overrides = [*overrides, f"root={tmp_path / 'runs'}"]
    result = launch(*overrides, cwd=tmp_path)
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr, result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_slurm_where_there_is_none_is_one_line(tmp_path):
    code = (
        "import os, sys; os.environ['PATH'] = '/nonexistent';"
        f"from llmhpc.launch import main; sys.exit(main(['cluster=slurm', 'root={tmp_path / 'r'}']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "cluster.executor=slurm: there is no sbatch here" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_takes_under_a_second_of_cpu_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, time; from llmhpc.launch import main;"
        f"status = main(['dry_run=true', 'root={tmp_path}']);"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules];"
        "print('heavy', heavy); print('cpu', time.process_time()); sys.exit(status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "heavy []" in result.stdout
    assert float(result.stdout.split("cpu ")[1]) < 1.0
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_and_its_probe_import_nothing_heavy():
    code = (
        "import sys, llmhpc.doctor, llmhpc.site.probe;"
        f"print([m for m in (*{HEAVY!r}, 'hydra', 'submitit') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_a_dry_run_says_what_would_run(tmp_path):
    lines = launch("dry_run=true", f"root={tmp_path}").stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "collect", "filter", "dedup", "shuffle", "tokenizer", "tokenize", "inspect", "train", "evaluate", "verdict", "report",
    ]  # fmt: skip
    assert all("to run" in line and "new" in line for line in lines[:-1])


def test_the_plan_of_a_sweep_says_which_points_a_step_is_for(tmp_path):
    lines = launch("-m", "seed=1,2", "dry_run=true", f"root={tmp_path}").stdout.splitlines()[:-1]
    shared = [line.split()[0] for line in lines if "[" not in line]
    assert shared == ["collect", "filter", "dedup"]
    assert (
        sum("[seed=1]" in line for line in lines) == sum("[seed=2]" in line for line in lines) == 8
    )


def test_status_without_a_run_says_so(tmp_path):
    command = [sys.executable, "-m", "llmhpc.status", str(tmp_path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert "no launch below it" in result.stderr


def test_help_names_the_usage():
    begun = time.monotonic()
    assert "dry_run=true" in launch("--help").stdout
    assert time.monotonic() - begun < 30


def test_another_content_of_a_task_is_another_step_wherever_it_lies(tmp_path):
    def fingerprint(folder: str, question: str) -> str:
        row = {"question": question, "choices": ["4", "5"], "gold": 0}
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "test.jsonl").write_text(json.dumps(row) + "\n")
        cfg = compose(
            [
                "+task@stages.evaluate.tasks.mine=choice",
                f"stages.evaluate.tasks.mine.data_dir={tmp_path / folder}",
            ]
        )
        cfg.stages["evaluate"].settle()
        return next(step.fingerprint for step in plan(cfg) if step.name == "evaluate")

    first = fingerprint("a", "2 + 2?")
    assert fingerprint("b", "2 + 2?") == first != fingerprint("a", "1 + 3?")
