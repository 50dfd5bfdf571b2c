"""A finished run in the real formats: sealed steps from collected pages to scores."""

import hashlib
import json
import math
import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zstandard

from llmhpc.jobs import inspect

STARTED = 1_790_000_000.0
VERSIONS = {"llmhpc": "0.1.0", "torch": "2.13.0", "datatrove": "0.10.1"}
EVIL = "<script>alert('removed')</script> & <img src=x onerror=alert(1)>"
SENTENCE = "the file returns a list of names for each module and raises an error when none is there"
WORDS = SENTENCE.split()


class Sealer:
    """Writes steps as the framework seals them: files, marks of ranks, manifest.json."""

    def __init__(self, root: Path, run_stage) -> None:
        self.root, self.clock, self.run_stage = root, STARTED, run_stage

    def step(
        self, kind, *, inputs=None, counts=None, config=None, files=None, seconds=10.0, ranks=1,
        seed=0, name="",
    ):  # fmt: skip
        step, words = name or kind, f"{kind}{seed or ''}{name}"
        name = f"{step}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
        home = self.root / name
        files = files or {}
        for path, content in files.items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_bytes(content)
        (home / "ranks").mkdir(parents=True, exist_ok=True)
        for rank in range(ranks):
            (home / "ranks" / f"main-{rank:05d}.json").write_text("{}")
        record = {
            "name": step,
            "kind": kind,
            "fingerprint": name[-8:],
            "seed": seed,
            "config": {"kind": kind, "ranks": ranks, **(config or {})},
            "inputs": {role: str(path) for role, path in (inputs or {}).items()},
            "counts": counts or {},
            "files": {
                path: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for path, data in sorted(files.items())
            },
            "started": self.clock,
            "finished": self.clock + seconds,
            "seconds": seconds,
            "task_seconds": seconds * ranks * 0.8,
            "host": "node-1",
            "versions": VERSIONS,
            "commit": "0123456789abcdef0123456789abcdef01234567",
        }
        (home / "manifest.json").write_text(json.dumps(record))
        self.clock += seconds + 1
        return home


def documents(rule, reasons, number=6, text=""):
    """A shard of documents, compressed."""
    draw = random.Random(rule)
    lines = []
    for n in range(number):
        words = " ".join(draw.choices(WORDS, k=draw.randint(30, 200)))
        metadata = {"url": f"https://{'docs' if n % 3 else 'wiki'}.example.org/{rule}/{n}.html"}
        metadata |= {"language": "en", "quality": draw.random()}
        if rule == "duplicate":
            metadata |= {"cluster_size": 3, "dropped_because": f"similarity 0.91 to page/{n}"}
        if reasons:
            metadata["dropped_by"] = rule
            metadata["dropped_because"] = f"{reasons[n % len(reasons)]}: {n + 10} < 50"
        body = f"{rule} page {n}\n\n{text}{words}."
        lines.append({"text": body, "id": f"{rule}/{n}", "metadata": metadata})
    data = "".join(json.dumps(line) + "\n" for line in lines)
    return zstandard.compress(data.encode())


def metrics(steps, tokens_per_step):
    draw, lines = random.Random(0), []
    for step in range(1, steps + 1):
        loss = 2.9 + 5.4 * math.exp(-step / (steps / 6)) + draw.gauss(0, 0.06)
        record = {"step": step, "tokens": step * tokens_per_step, "loss": loss}
        record["lr"] = (
            3e-3 * min(1, step / 20) * (0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2)
        )
        record["grad_norm"] = 0.5 + 3 * math.exp(-step / 15) + abs(draw.gauss(0, 0.05))
        record["tokens_per_second"] = 21_000 + draw.gauss(0, 900)
        record["seconds"] = step * tokens_per_step / 21_000
        lines.append(json.dumps(record))
    return ("\n".join(lines) + "\n").encode()


def scores(exports):
    lines = []
    for entry in exports:
        share = entry["tokens"] / exports[-1]["tokens"]
        found = [("continuation", m, 0.25 + g * share, 0.031, 0.25, 250, True)
                 for m, g in (("acc_norm_pmi_byte", 0.21), ("acc", 0.14), ("acc_norm_token", 0.19))]  # fmt: skip
        found.append(("heldout", "bits_per_byte", 3.2 - 1.75 * share**0.3, 0.021, None, 41, False))
        for task, metric, value, error, chance, items, higher in found:
            lines.append({
                "step": entry["step"], "tokens": entry["tokens"], "checkpoint": entry["path"],
                "task": task, "form": "text" if chance is None else "cloze", "metric": metric,
                "value": value, "stderr": error, "chance": chance, "items": items, "truncated": 0,
                "higher_is_better": higher, "headline": metric in ("acc_norm_pmi_byte", "bits_per_byte"),
            })  # fmt: skip
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def data_steps(run):
    collect = run.step(
        "collect",
        counts={
            "pages": 1502,
            "html_bytes": 181_330_112,
            "skipped": {"larger than max_page_mb": 3},
        },
        config={"source": {"kind": "pydoc", "packages": ["numpy", "torch"], "max_page_mb": 2.0}},
        files={f"warc/{rank:05d}.warc.gz": bytes(9000 + rank) for rank in range(4)},
        seconds=48.2,
        ranks=4,
    )
    rules = {
        "language": {"in": 1471, "kept": 1455, "dropped": 16, "reasons": {"de": 9, "ja": 7}},
        "gopher_quality": {
            "in": 1455,
            "kept": 1210,
            "characters": 24_900_123,
            "dropped": 245,
            "reasons": {"gopher_short_doc": 190, "gopher_below_alpha_threshold": 55},
        },
        "c4": {
            "in": 1210,
            "kept": 1188,
            "dropped": 22,
            "reasons": {"lorem_ipsum": 1, "curly_bracket": 21},
            "lines": {"filter-javascript": 24},
            "edits": {"characters removed": 4321, "documents": 17},
            "spared": {"lorem_ipsum": 2, "curly_bracket": 4},
        },
    }
    shards = {
        "documents/00000.jsonl.zst": documents("kept", []),
        "documents/00001.jsonl.zst": documents("kept-too", []),
        "removed/language/00000.jsonl.zst": documents("language", ["de", "de", "ja"]),
        "removed/gopher_quality/00000.jsonl.zst": documents(
            "gopher_quality", ["gopher_short_doc", "gopher_below_alpha_threshold"], text=EVIL
        ),
        "removed/c4/00000.jsonl.zst": documents("c4", ["curly_bracket"]),
    }
    filtered = run.step(
        "filter",
        inputs={"pages": collect},
        counts={
            "documents_in": 1502,
            "documents": 1188,
            "bytes_in": 181_330_112,
            "characters": 24_882_551,
            "skipped": {"damaged gzip member": 2},
            "extract": {"in": 1502, "kept": 1471, "dropped": 31, "reasons": {"empty": 31}},
            "rules": rules,
        },
        config={
            "rules": {
                "gopher_quality": {"kind": "gopher_quality", "min_words": 50, "stop_words": None}
            }
        },
        files=shards,
        seconds=92.7,
        ranks=4,
    )
    dedup = run.step(
        "dedup",
        inputs={"documents": filtered},
        counts={
            "documents_in": 1188,
            "documents": 1013,
            "duplicates": 175,
            "clusters": 61,
            "by_cluster_size": {
                "001-001": {"kept": 952, "kept_scored": 952, "kept_score": 1904.0},
                "004-007": {
                    "kept": 61,
                    "kept_scored": 61,
                    "kept_score": 183.0,
                    "removed": 175,
                    "removed_scored": 100,
                    "removed_score": 125.0,
                },
            },
        },
        config={"method": {"kind": "minhash", "score_field": "quality"}},
        files={
            "documents/00000.jsonl.zst": documents("unique", []),
            "removed/duplicate/00000.jsonl.zst": documents("duplicate", []),
        },
        seconds=33.0,
        ranks=4,
    )
    return run.step(
        "shuffle",
        inputs={"documents": dedup},
        counts={"documents_in": 1013, "documents": 1013, "scattered": 1013},
        files={"documents/00000.jsonl.zst": documents("shuffled", [])},
        seconds=3.1,
        ranks=8,
    )


def inspect_step(run):
    """What the stage makes of the filter and dedup steps."""
    inputs = {name: next(run.root.glob(f"{name}-*")) for name in ("filter", "dedup")}
    made = run.root / "made"
    run.run_stage(inspect.Config(), inputs, made)
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    shutil.rmtree(made)
    return run.step("inspect", inputs=inputs, files=files, counts={"lines": 4, "samples": 30})


def inspected():
    """The files of the inspection of a small tokenizer."""
    from llmhpc.tokens import bpe, inspection, sample
    from llmhpc.tokens.shards import shard_paths

    with TemporaryDirectory() as home:
        step = Path(home)
        (step / "documents").mkdir()
        (step / "documents/0.jsonl.zst").write_bytes(documents("seen", [], 60, text=EVIL))
        picked = sample.pick(shard_paths(step), 1_000_000, 0.2)
        train, heldout = picked.samples["train"], picked.samples["heldout"]
        seen = inspection.inspect(bpe.train_bpe(train.texts(), 320), train, heldout, step)
        return {
            "inspection.json": json.dumps(seen).encode(),
            "vocabulary.parquet": (step / "vocabulary.parquet").read_bytes(),
        }


def token_steps(run, shuffle):
    tokenizer = run.step(
        "tokenizer",
        inputs={"documents": shuffle},
        counts={"documents_in": 1013, "documents": 980, "vocab_size": 4096},
        files={"tokenizer/tokenizer.json": b"{}", **inspected()},
        seconds=6.4,
    )
    index = {
        "dtype": "uint16",
        "vocab_size": 4096,
        "eos_id": 0,
        "train": {"tokens": 6_120_007, "documents": 972, "files": ["train/00000.ds"]},
        "heldout": {"tokens": 255_120, "documents": 41, "files": ["heldout/00000.ds"]},
    }
    counts = {
        "documents_in": 1013,
        "documents": 1013,
        "tokens": 6_120_007,
        "heldout_tokens": 255_120,
    }
    tokens = run.step(
        "tokenize",
        inputs={"documents": shuffle, "tokenizer": tokenizer},
        counts=counts | {"bytes": 21_300_456, "bytes_per_token": 3.3412},
        files={
            "tokens.json": json.dumps(index).encode(),
            "train/00000.ds": bytes(4096),
            "heldout/00000.ds": bytes(512),
        },
        seconds=5.2,
        ranks=4,
    )
    return tokenizer, tokens


def model_steps(run, tokenizer, tokens):
    exports = [
        {"step": s, "tokens": s * 16_384, "path": f"exports/{s:06d}"}
        for s in (0, 75, 150, 225, 300)
    ]
    train = run.step(
        "train",
        inputs={"tokens": tokens, "tokenizer": tokenizer},
        counts={
            "steps": 300,
            "tokens": 4_915_200,
            "parameters": 4_132_096,
            "first_loss": 8.3214,
            "final_loss": 2.9173,
        },
        config={
            "model": {"kind": "llama", "hidden_size": 192, "vocab_size": 4096},
            "parallel": {"dp": 2, "tp": 1, "pp": 1},
            "schedule": {"steps": 300, "lr": 0.003, "decay": "cosine"},
        },
        files={
            "metrics.jsonl": metrics(300, 16_384),
            "exports.json": json.dumps(exports).encode(),
            **{f"{e['path']}/model.safetensors": bytes(2048) for e in exports},
        },
        seconds=241.9,
    )
    return run.step(
        "evaluate",
        inputs={"model": train, "tokens": tokens},
        counts={"checkpoints": 5, "items": 1455},
        config={"items": 250},
        files={"scores.jsonl": scores(exports), "items/000400.parquet": bytes(700)},
        seconds=71.5,
    )


def two_data_sets(run):
    """A verdict step over trainings of two data sets and two seeds each, which share their documents."""
    source = run.step("shuffle", counts={"documents": 9}, files={"documents/0": b""})
    inputs = {}
    for data, better in (("refined", 0.1), ("raw", 0.0)):
        prefix = "" if data == "refined" else "raw_"
        for seed in (0, 1):
            exports = [{"step": n, "tokens": n * 8, "path": f"exports/{n}"} for n in (50, 100)]
            train = run.step(
                "train",
                name=f"{prefix}train",
                seed=seed,
                inputs={"tokens": source},
                counts={"steps": 100, "tokens": 800, "parameters": 12345, "first_loss": 8.0,
                        "final_loss": 4.0 - better + seed / 100},
                files={"metrics.jsonl": metrics(100, 8), "exports.json": json.dumps(exports).encode()},
            )  # fmt: skip
            lines = [json.loads(line) for line in scores(exports).splitlines()]
            lines = [line | {"value": line["value"] + better + seed / 50} for line in lines]
            domains = [line | {"domain": f"kind {n}"} for n in (1, 2) for line in lines[-4:-3]]
            inputs[f"{data}.{seed}"] = run.step(
                "evaluate",
                name=f"{prefix}evaluate",
                seed=seed,  # for another directory; an evaluation has none
                inputs={"model": train, "tokens": source},
                files={name: "".join(json.dumps(line) + "\n" for line in part).encode()
                       for name, part in (("scores.jsonl", lines), ("domains.jsonl", domains))},
            )  # fmt: skip
    return run.step("verdict", inputs=inputs, files={"signal.json": b"[]"})


@pytest.fixture
def run(tmp_path, run_stage):
    """A maker of sealed steps below ``tmp_path``."""
    return Sealer(tmp_path / "runs", run_stage)


@pytest.fixture
def evaluated(run):
    """The directory of the evaluate step of a whole run."""
    return whole(run)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, run_stage):
    """The same for tests that only read."""
    return whole(Sealer(tmp_path_factory.mktemp("finished") / "runs", run_stage))


@pytest.fixture
def shuffled(run):
    """The last step of a run of data steps only."""
    return data_steps(run)


def whole(run):
    """Every step of a run; returns the directory of evaluate."""
    shuffle = data_steps(run)
    inspect_step(run)
    return model_steps(run, *token_steps(run, shuffle))


@pytest.fixture
def verdict(run):
    """The directory of the verdict step of a run of two data sets."""
    return two_data_sets(run)


@pytest.fixture(scope="session")
def compared(tmp_path_factory, run_stage):
    """The same for tests that only read."""
    return two_data_sets(Sealer(tmp_path_factory.mktemp("compared") / "runs", run_stage))
