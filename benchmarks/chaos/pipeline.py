"""The pipeline that is run: its settings, its root, a launcher, cron's tick, and what is compared of it."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.devcluster import Cluster
from llmhpc.files import read_json
from llmhpc.handoff import runs

TMPFS_MB = 700
SETTINGS = [
    "cluster=slurm",
    "cluster.partition=low",
    # the trial is whether a run survives, not whether it gives up: a cause may come as often as it is injected
    *(
        f"cluster.recovery.{cause}=1000"
        for cause in ("killed", "cancelled", "disk_full", "node_fail", "timeout", "damaged")
    ),
    "cluster.recovery.exclude_node_after=0",
    "cluster.warning_s=30",
    "stages.collect.source.standard_library=false",
    "stages.collect.source.packages=[click,jinja2,rich]",
    "stages.tokenizer.vocab_size=512",
    "stages.tokenizer.heldout_fraction=0.3",
    "stages.tokenize.heldout_fraction=0.3",
    "model=llama_tiny",
    "parallel=dp2",
    "stages.train.resources.nodes=2",
    # half a minute: Slurm looks at time limits every 30 s
    "stages.train.schedule.steps=500",
    "stages.train.schedule.warmup_steps=2",
    "stages.train.schedule.global_batch=8",
    "stages.train.schedule.sequence_length=64",
    "stages.train.parallel.micro_batch=2",
    "stages.train.checkpoint_every=50",
    "stages.train.save_every_min=0.05",
    "~stages.evaluate",
    "~stages.verdict",
    "~stages.report",
]


@contextlib.contextmanager
def fresh_root(folder: Path) -> Iterator[Path]:
    """A new root, on a small filesystem of its own where this user may mount one; it goes with the block."""
    root = Path(tempfile.mkdtemp(dir=folder))
    options = ["-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "tmpfs", str(root)]
    if os.geteuid() == 0:
        subprocess.run(["mount", *options], check=False)
    try:
        yield root
    finally:
        if root.is_mount():
            subprocess.run(["umount", "-l", str(root)], check=False)
        shutil.rmtree(root, ignore_errors=True)


def start(cluster: Cluster, root: Path) -> subprocess.Popen:
    """A launcher at work."""
    return cluster.module("llmhpc.launch", *SETTINGS, f"root={root}")


def complete(root: Path) -> bool:
    """True once the newest launch has made everything."""
    launches = runs.all_of(root)
    return bool(launches) and all(
        (home / "manifest.json").exists() for home in runs.homes(launches[-1])
    )


def gave_up(root: Path) -> list[float]:
    """When the suite stopped a launch that had failed."""
    records = map(runs.read, runs.all_of(root))
    return [record["end"] for record in records if record.get("ended") == "failed"]


def made(root: Path) -> dict[str, dict[str, Any]]:
    """What is compared: of each step the files with their checksums; of training the exports and the losses."""
    found: dict[str, dict[str, Any]] = {}
    for manifest in sorted(root.glob("*/manifest.json")):
        record = read_json(manifest)
        files = {name: entry["sha256"] for name, entry in record["files"].items()}
        if record["kind"] == "train":  # its other files hold times
            files = {n: s for n, s in files.items() if n.startswith(("exports/", "checkpoints/"))}
            rows = map(json.loads, (manifest.parent / "metrics.jsonl").read_text().splitlines())
            files["losses"] = [(row["step"], row["loss"], row["grad_norm"]) for row in rows]
        found[manifest.parent.name] = files
    return found


def differences(expected: dict[str, dict], found: dict[str, dict]) -> dict[str, list[str]]:
    """Step -> what differs of it; steps that are equal have no entry."""
    different = {}
    for step in sorted(expected.keys() | found.keys()):
        a, b = expected.get(step, {"manifest.json": ""}), found.get(step, {})
        if names := sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name)):
            different[step] = names
    return different
