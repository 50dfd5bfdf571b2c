"""Stages run as the framework runs them: phase by phase, rank by rank, files moved into place after each."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard

from llmhpc.handoff.artifact import add_up
from llmhpc.planning.registry import load
from llmhpc.sources import Page
from llmhpc.sources.archive import write
from llmhpc.task import Task

AFTER_COLLECT = (
    "filter",
    "dedup",
    "shuffle",
    "tokenizer",
    "tokenize",
    "train",
    "evaluate",
    "verdict",
    "inspect",
    "report",
)


def run_phase(cfg, phase, ranks, inputs, home, seed):
    counts = []
    for rank in ranks:
        out = home / "scratch"
        out.mkdir(parents=True)
        task = Task(phase=phase.name, rank=rank, ranks=phase.ranks, seed=seed, home=home)
        counts.append(load("stage", cfg.kind).run(cfg, inputs, out, task))
        for path in filter(lambda path: path.is_file(), sorted(out.rglob("*"))):
            target = home / path.relative_to(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        shutil.rmtree(out)
    return add_up(counts)


@pytest.fixture(scope="session")
def run_stage():
    """Runs all phases of a stage into a folder; ``backwards`` takes the last rank first. Returns the counts."""

    def run(cfg, inputs, home, seed=0, backwards=False):
        counts = {}
        for phase in cfg.phases():
            ranks = range(phase.ranks)
            counts |= run_phase(cfg, phase, ranks[::-1] if backwards else ranks, inputs, home, seed)
        shutil.rmtree(home / "work", ignore_errors=True)
        shutil.rmtree(home / "progress", ignore_errors=True)
        return counts

    return run


@pytest.fixture(scope="session")
def write_documents():
    """Writes documents, dealt out in turn, to ``shards`` files of ``step``/documents; returns ``step``."""

    def write(step, documents, shards=3):
        (step / "documents").mkdir(parents=True)
        for shard in range(shards):
            lines = (
                json.dumps(document, ensure_ascii=False) for document in documents[shard::shards]
            )
            body = "".join(f"{line}\n" for line in lines).encode()
            path = step / "documents" / f"{shard:05d}.jsonl.zst"
            path.write_bytes(zstandard.ZstdCompressor().compress(body))
        return step

    return write


@pytest.fixture(scope="session")
def read_documents():
    """The documents of a step (or of another folder of it) in order of the shards."""

    def read(step, folder="documents"):
        lines = []
        for path in sorted((step / folder).glob("*.jsonl.zst")):
            with zstandard.open(path, "rb") as file:
                lines += file.read().splitlines()
        return [json.loads(line) for line in lines]

    return read


@pytest.fixture(scope="session")
def files_of():
    """Every file of a folder with its bytes."""

    def files(folder):
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    return files


@pytest.fixture(scope="session")
def prose():
    """Documents of random words of a small language: ``count`` of ``words`` words each."""

    def make(count, words=120, seed=0):
        rng = random.Random(seed)
        syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
        language = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(1500)]
        return [
            {
                "text": " ".join(rng.choices(language, k=words)) + ".",
                "id": f"page-{number}",
                "metadata": {"url": f"https://example.org/{number}"},
            }
            for number in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def with_copies():
    """Each of the first ``copies`` documents once more with one word changed: Jaccard 0.92 of 5-grams."""

    def make(documents, copies):
        planted = []
        for number, document in enumerate(documents[:copies]):
            words = document["text"].split()
            words[len(words) // 2] = "otherwise"
            planted.append(document | {"text": " ".join(words), "id": f"copy-{number}"})
        return random.Random(1).sample(documents + planted, len(documents) + len(planted))

    return make


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides that make the quickstart a run of a minute: 80 pages, 100 thousand parameters, 20 steps."""
    return [
        "stages.collect.source.standard_library=false",
        "stages.collect.source.packages=[click,jinja2,rich]",
        "stages.tokenizer.vocab_size=512",
        "stages.tokenizer.heldout_fraction=0.3",
        "stages.tokenize.heldout_fraction=0.3",
        "model=llama_tiny",
        "parallel=single",
        "stages.train.schedule.steps=20",
        "stages.train.schedule.warmup_steps=2",
        "stages.train.schedule.global_batch=8",
        "stages.train.schedule.sequence_length=64",
        "stages.train.parallel.micro_batch=2",
        "stages.train.checkpoint_every=10",
        "stages.evaluate.tasks.continuation.continuation_bytes=32",
        "stages.evaluate.tasks.continuation.items=16",
        "stages.evaluate.tasks.continuation.items_min=4",
        "stages.evaluate.tasks.heldout.bytes=4000",
        "stages.evaluate.tasks.word_order.max_words=12",
        *(
            f"stages.evaluate.tasks.{task}.items=16"
            for task in ("word_order", "recall", "grammar", "copying", "arithmetic")
        ),
    ]


@pytest.fixture(scope="session")
def local_run(tmp_path_factory, tiny) -> SimpleNamespace:
    """The small run, made once on this machine without disturbance: its root and what the launcher printed."""
    root = tmp_path_factory.mktemp("local")
    command = [sys.executable, "-m", "llmhpc.launch", *tiny, f"root={root}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    (launch,) = root.glob("launches/*.json")
    homes = {s["name"]: Path(s["out"]) for s in json.loads(launch.read_text())["steps"]}
    return SimpleNamespace(root=root, out=done.stdout, homes=homes)


class Pages:
    """A WARC file of one page for each rank of a run that only collects.

    A start of a rank that is held goes no further: free the rank once the start has been killed.
    """

    def __init__(self, folder: Path, ranks: int) -> None:
        self.folder, self.ranks = folder, ranks
        folder.mkdir(parents=True, exist_ok=True)
        for rank in range(ranks):
            self.free(rank)

    def path(self, rank: int) -> Path:
        return self.folder / f"{rank}.warc.gz"

    def hold(self, *ranks: int) -> None:
        for rank in ranks:
            self.path(rank).unlink()
            os.mkfifo(self.path(rank))

    def free(self, *ranks: int, body: bytes = b"<p>A page.</p>") -> None:
        """For starts from now on."""
        for rank in ranks:
            draft = self.folder / "draft"
            write([Page(url=f"http://localhost/{rank}", body=body)], draft)
            draft.replace(self.path(rank))

    @property
    def words(self) -> list[str]:
        return [
            "stage/collect@stages.collect=warc", f"stages.collect.source.paths=['{self.folder}/*.gz']",
            f"stages.collect.ranks={self.ranks}", "stages.collect.resources.mem_gb=0.5",
            *(f"~stages.{name}" for name in AFTER_COLLECT), "~model", "~parallel", "~schedule",
        ]  # fmt: skip


@pytest.fixture(scope="session")
def pages_in() -> type[Pages]:
    """Makes the pages of a run in a folder."""
    return Pages


@pytest.fixture
def pages_of(tmp_path) -> Callable[[int], Pages]:
    """Makes the pages of a run of so many ranks."""
    return lambda ranks: Pages(tmp_path / "pages", ranks)


ITEM = {"group": "", "domain": "", "unconditioned": [], "prediction": None, "correct": None}


def answered(name, form, right, document, draw):
    """A question of four choices, and log-likelihoods that give the right answer or a wrong one."""
    gold = int(document[1:]) % 4
    prediction = gold if right else (gold + 1) % 4
    logprobs = [-3.0 - draw.random() for _ in range(4)]
    logprobs[prediction] = -2.0
    return ITEM | {
        "task": name, "form": form, "item": f"i{document}", "hash": f"{name} {document}", "document": document, "group": document,
        "gold": [gold], "logprobs": logprobs, "prediction": prediction, "correct": right,
        "y": float(right), "x": 1.0,
    }  # fmt: skip


def read_aloud(name, bits_per_byte, document, draw):
    """A text and its bits."""
    size = 500.0 + 1000 * draw.random()
    return ITEM | {
        "task": name, "form": "text", "item": f"i{document}", "hash": f"{name} {document}", "document": document, "group": document,
        "gold": [], "logprobs": [-size * bits_per_byte], "y": size * bits_per_byte, "x": size,
    }  # fmt: skip


@pytest.fixture(scope="session")
def simulate():
    """Evaluates a training that is not there: skills are probits, made of the task's items, the data and the seed."""

    def normals(count, *names):
        rnd = random.Random(repr(names))
        return [rnd.gauss(0, 1) for _ in range(count)]

    def run(
        data,
        seed,
        *,
        quality=0.0,
        seed_noise=0.05,
        growth=1.5,
        tasks=(("arc", "cloze"), ("pages", "text")),
        items=200,
        checkpoints=8,
        start=-0.7,
    ):
        import pyarrow as pa

        from llmhpc.evals.judging.runs import Run
        from llmhpc.evals.judging.uncertainty import Part, ratio_error

        scores, rows = [], []
        for name, form in tasks:
            hard, tastes = normals(items, name), normals(items, name, data)
            own = normals(items, name, form, data, seed)
            luck = seed_noise * normals(1, name, form, data, seed)[0]
            for step in range(1, checkpoints + 1):
                tokens, part = step * 1_000_000, step / checkpoints
                draw = random.Random(repr((name, form, data, seed, step)))
                skill = start + (growth + quality) * part + luck
                asked = []
                for i in range(items):
                    own_i = skill + 0.8 * hard[i] + 0.2 * tastes[i] + 0.5 * own[i]
                    own_i += 0.2 * draw.gauss(0, 1)
                    document = f"d{i:04d}"
                    asked.append(
                        read_aloud(name, 2.5 - 0.3 * own_i, document, random.Random(i))
                        if form == "text"
                        else answered(name, form, own_i > 0, document, draw)
                    )
                parts = [Part(a["document"], a["group"], a["y"], a["x"]) for a in asked]
                scores.append({
                    "step": step * 100, "tokens": tokens, "checkpoint": f"exports/{step * 100:06d}",
                    "task": name, "form": form,
                    "metric": "bits_per_byte" if form == "text" else "acc",
                    "value": sum(p.y for p in parts) / sum(p.x for p in parts),
                    "stderr": ratio_error(parts), "chance": None if form == "text" else 0.25,
                    "items": items, "higher_is_better": form != "text", "headline": True,
                })  # fmt: skip
                rows += [a | {"step": step * 100, "tokens": tokens} for a in asked]
        return Run(data, seed, scores, pa.Table.from_pylist(rows))

    return run
