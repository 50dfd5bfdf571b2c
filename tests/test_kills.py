"""The whole refinery through the launcher, in peace and with tasks killed in every step: the same bytes."""

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhpc.files import read_json
from llmhpc.handoff import artifact

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
STARTING_S = 0.05  # the shortest tasks take 0.1 s
WORKING_S = 0.1
AT_WORK = 2  # as long as there are starts to end so: the shortest tasks are done before
DEDUPS = ("url", "minhash", "bloom", "sentence", "substring")
RULES = ("url", "language", "lines", "gopher_quality", "c4", "pii", "decontamination")
LEARNT = {"quality": "classifier", "perplexity": "ngrams", "topic": "topics"}  # rule -> its stage
SETTINGS = [
    "stages.collect.source.standard_library=false",
    "stages.collect.source.packages=[click,jinja2]",
    "stages.collect.ranks=2",
    "+stage/collect@stages.texts=jsonl",
    "stages.texts.ranks=2",
    # pages as texts, for what is learnt from documents and then judges them
    "+stage/filter@stages.extracted=none",
    "+stages.extracted.needs.pages=collect",
    "stages.extracted.ranks=2",
    "+stage@stages.classifier=classifier",
    "+stages.classifier.needs={good:extracted,bad:texts}",
    "stages.classifier.documents=200",
    "stages.classifier.buckets=1000",
    "stages.classifier.keep_rate=1",
    "+stage@stages.ngrams=ngrams",
    "+stages.ngrams.needs.documents=extracted",
    "stages.ngrams.sample_mb=1",
    "stages.ngrams.order=3",
    "stages.ngrams.heldout_fraction=0.3",
    "stages.ngrams.resources.mem_gb=1",
    "stages.ngrams.keep_rate=1",
    "+stage@stages.topics=topics",
    "+stages.topics.needs.documents=extracted",
    "stages.topics.clusters=4",
    "stages.topics.features=1000",
    "stage/filter@stages.filter=none",
    "stages.filter.needs.pages=extracted",
    "stages.filter.ranks=2",
    *(f"+rule@stages.filter.rules.{rule}={rule}" for rule in (*RULES, *LEARNT)),
    *(f"+stages.filter.needs.{rule}={stage}" for rule, stage in LEARNT.items()),
    "stages.filter.rules.url.builtin_lists=false",
    "stages.filter.rules.url.subwords=[changelog]",
    "stages.filter.rules.language.threshold=0.2",
    "stages.filter.rules.gopher_quality.min_alphabetic_words=0.2",
    "stages.filter.rules.gopher_quality.keep_share=0.5",
    "stages.filter.rules.c4.min_sentences=0",
    "stages.filter.rules.c4.only_terminal_punctuation=false",
    "stages.filter.rules.c4.drop_curly_bracket=false",
    "~stages.dedup",
    *(f"+stage/dedup@stages.{method}={method}" for method in DEDUPS),
    *(
        f"+stages.{method}.needs.documents={before}"
        for before, method in itertools.pairwise(("filter", *DEDUPS))
    ),
    *(f"stages.{method}.ranks=2" for method in DEDUPS),
    "stages.bloom.method.buckets=2",
    "+stage@stages.mix=mix",
    f"+stages.mix.needs={{pages:{DEDUPS[-1]},texts:texts,tokenizer:tokenizer}}",
    "+stages.mix.weights={pages:0.7,texts:0.3}",
    "+stages.mix.repeats={pages:1.5}",
    "stages.mix.ranks=2",
    "~stages.inspect.needs.dedup",
    f"+stages.inspect.needs.last={DEDUPS[-1]}",
    "stages.shuffle.needs.documents=mix",
    "stages.shuffle.ranks=2",
    "stages.tokenizer.needs.documents=extracted",
    "stages.tokenizer.vocab_size=512",
    "stages.tokenizer.sample_mb=1",
    "stages.tokenize.heldout_fraction=0.3",
    "stages.tokenize.ranks=2",
    *(f"~stages.{name}" for name in ("train", "evaluate", "verdict", "report")),
    *("~model", "~parallel", "~schedule"),
]


def launcher(root: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "llmhpc.launch", *SETTINGS, *words, f"root={root}"]
    out = (root.parent / f"{root.name}.log").open("a")
    return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)


class Start:
    """One start of a task, to be killed ``wait_s`` after it began, or after it wrote its first byte if ``at_work``."""

    def __init__(self, path: Path, wait_s: float, at_work: bool) -> None:
        record = read_json(path)
        self.path, self.home, self.pid = path, path.parents[1], record["pid"]
        name = f"{record['phase']}-{record['rank']:05d}-{record['host']}-{self.pid}"
        self.scratch, self.at_work, self.wait_s = (
            self.home / artifact.SCRATCH / name,
            at_work,
            wait_s,
        )
        self.due = 0.0 if at_work else record["begin"] + wait_s

    def has_come(self) -> bool:
        if not self.due and any(files for _, _, files in os.walk(self.scratch)):
            self.due = time.time() + self.wait_s
        return 0 < self.due <= time.time()

    def kill(self) -> bool:
        """False if it had ended before."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        return read_json(self.path).get("cause", "killed") == "killed"


class Killer:
    """Ends tasks: of each step one while it starts, then ``AT_WORK`` once they have begun to write."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.rng = root, random.Random(seed)
        self.seen: set[Path] = set()
        self.waiting: list[Start] = []
        self.hit: list[Start] = []
        self.missed: set[Path] = set()  # steps with a task that ended sooner: too short to wait for

    def look(self) -> None:
        for path in sorted(set(self.root.glob("*/attempts/*-[0-9]*.json")) - self.seen):
            self.seen.add(path)
            home = path.parents[1]
            at_work = [start.at_work for start in self.hit if start.home == home]
            if not at_work:
                wait_s = 0 if home in self.missed else STARTING_S * self.rng.random()
                self.waiting.append(Start(path, wait_s, at_work=False))
            elif sum(at_work) < AT_WORK:
                self.waiting.append(Start(path, WORKING_S * self.rng.random(), at_work=True))
        for start in [start for start in self.waiting if start.has_come()]:
            self.waiting.remove(start)
            if start.kill():
                self.hit.append(start)
            else:
                self.missed.add(start.home)


def made(root: Path) -> dict[str, dict[str, str]]:
    """Step -> file -> checksum, and the counts."""
    manifests = {path.parent.name: read_json(path) for path in root.glob("*/manifest.json")}
    return {
        name: {file: entry["sha256"] for file, entry in manifest["files"].items()}
        | {"counts": manifest["counts"]}
        for name, manifest in manifests.items()
    }


@pytest.fixture
def words(prose, tmp_path) -> list[str]:
    """Settings that name the inputs: files of texts, and an evaluation set."""
    texts = prose(6000, words=60)
    for number in range(2):
        lines = (json.dumps(text) for text in texts[number::2])
        (tmp_path / f"{number}.jsonl").write_text("\n".join(lines))
    (tmp_path / "set.txt").write_text(f"{texts[0]['text'][:200]}\n")
    return [
        f"stages.texts.source.paths=['{tmp_path}/*.jsonl']",
        f"stages.filter.rules.decontamination.files=['{tmp_path}/set.txt']",
        "cluster.recovery.killed=1000",
    ]


@pytest.mark.timeout(1800)  # a minute on two cores that do nothing else
def test_tasks_killed_in_every_step_change_no_byte(words, tmp_path):
    peace, war = tmp_path / "peace", tmp_path / "war"
    assert launcher(peace, *words, "cluster=debug").wait(900) == 0
    expected = made(peace)
    assert len(expected) == 17 and all(len(files) > 1 for files in expected.values())

    killer, kill_launcher_at = Killer(war, seed=7), [6, 16]
    process, until = launcher(war, *words), time.monotonic() + 900
    while process.poll() is None or process.returncode:
        assert time.monotonic() < until
        killer.look()
        if kill_launcher_at and len(killer.hit) >= kill_launcher_at[0]:
            kill_launcher_at.pop(0)
            process.kill()
            process.wait()
        if process.poll() is not None:
            assert process.returncode in (0, -signal.SIGKILL), (tmp_path / "war.log").read_text()
            if process.returncode:
                process = launcher(war, *words)
        time.sleep(0.005)

    assert not kill_launcher_at
    assert {start.home.name for start in killer.hit} == set(expected)
    assert sum(start.at_work for start in killer.hit) > len(expected) / 2
    assert made(war) == expected
