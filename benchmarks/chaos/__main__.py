"""A run under injected faults on a real Slurm, compared with one that nobody disturbed.

python -m benchmarks.chaos --faults 60 --seed 1

Brings up a cluster of four nodes on this machine (sbatch/devcluster), makes a data-and-training pipeline once in
peace, then again and again under faults until so many have hit; every artifact must equal the undisturbed one, byte for
byte, and the losses, number for number. The disk-full fault needs root (a small tmpfs).
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.chaos import pipeline, table
from benchmarks.chaos.faults import KINDS, Faults, Hit
from benchmarks.chaos.findings import Finding, Findings, Helper
from benchmarks.devcluster import Cluster
from llmhpc.handoff import ledger, runs

NODES = 4
SETTINGS = ("SlurmdTimeout=10", "KillWait=3")
FAULTS_PER_RUN = 24  # two of each kind; the last ones of a run meet the training
SETTLE_S = 1.5  # between faults: on the average this
TICK_EVERY_S = 10.0  # cron's smallest step is a minute; here a run takes two
STUCK_S = 900.0  # without a fault


class Chaos:
    """Runs under faults, one after the other, and what was found until now."""

    def __init__(self, folder: Path, kinds: list[str], wanted: int, seed: int) -> None:
        self.folder, self.wanted, self.rng = folder, wanted, random.Random(seed)
        self.temporary = (
            folder / "tmp"
        )  # for the jobs, which leave things there when they are killed
        self.cluster = Cluster(folder / "dc", NODES, *SETTINGS)
        self.cluster.environment |= {
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(self.temporary),
        }  # fmt: skip
        self.injected = Counter(dict.fromkeys(kinds, 0))
        self.rows: list[tuple[Finding, float]] = []  # with the goodput of the run
        self.cost = ledger.Cost()
        self.identical = True
        self.begun = 0.0

    def go(self) -> None:
        """The undisturbed run, then the others."""
        self.cluster.up()
        self.temporary.mkdir()
        begun = time.monotonic()
        print("the undisturbed run", flush=True)
        with pipeline.fresh_root(self.folder) as root:
            self._disturb(root, 0)
            if not pipeline.complete(root):
                raise SystemExit("the undisturbed run did not come to its end")
            expected = pipeline.made(root)
            self._clear()
        print(f"complete after {time.monotonic() - begun:.0f} s", flush=True)
        self.begun = time.monotonic()
        while (left := self.wanted - self.injected.total()) > 0:
            with pipeline.fresh_root(self.folder) as root:
                hits, helpers = self._disturb(root, min(left, FAULTS_PER_RUN))
                self._judge(root, hits, helpers, expected)
                self._clear()

    def _disturb(self, root: Path, budget: int) -> tuple[list[Hit], list[Helper]]:
        """One run under so many faults at most, until it is complete or stuck."""
        pipeline.start(self.cluster, root).wait(timeout=300)
        faults = Faults(self.cluster, root, self.rng, self.injected)
        hits: list[Hit] = []
        helpers: list[Helper] = []
        moved = last_tick = time.monotonic()
        while not pipeline.complete(root) and time.monotonic() - moved < STUCK_S:
            time.sleep(self.rng.uniform(0.5, 1.5) * SETTLE_S)
            if len(hits) < budget and (hit := faults.inject()):
                hits.append(hit)
                moved = time.monotonic()
                print(self._progress(hit), flush=True)
            if time.monotonic() - last_tick > TICK_EVERY_S:
                helpers.append(self._help(root))
                last_tick = time.monotonic()
        launchers = [("launcher", h.begin, h.end) for h in hits if "launcher" in h.kind]
        return hits, helpers + launchers

    def _help(self, root: Path) -> Helper:
        """What cron does; or a person who launches again where the suite has given up."""
        begin = time.time()
        over = all("ended" in runs.read(path) for path in runs.all_of(root))
        if over and not pipeline.complete(root):
            print(f"    a person launches again: {runs.read(runs.all_of(root)[-1]).get('why')}")
            pipeline.start(self.cluster, root).wait(timeout=300)
            return "person", begin, time.time()
        self.cluster.module("llmhpc.tick", str(root)).wait(timeout=300)
        return "tick", begin, time.time()

    def _progress(self, hit: Hit) -> str:
        done = self.injected.total()
        left = (time.monotonic() - self.begun) / done * (self.wanted - done)
        first = f"{hit.victims[0].name}, " if hit.victims else ""
        return (
            f"{done:4d}/{self.wanted}, {left / 60:.0f} min left  {hit.kind:18} {first}{hit.target}"
        )

    def _judge(self, root: Path, hits: list[Hit], helpers: list[Helper], expected: dict) -> None:
        different = pipeline.differences(expected, pipeline.made(root))
        jobs = [job for job in self.cluster.jobs("-t", "all") if job.home.startswith(f"{root}/")]
        findings = Findings(root, jobs, helpers, different)
        judged, unmet = findings.judge(hits)
        cost = findings.cost
        self.rows += [(finding, cost.goodput) for finding in judged]
        self.cost += cost
        self.identical &= not different
        word = f"DIFFERENT: {different}" if different else "complete, identical"
        print(
            f"run {word}; {cost.attempts:.0f} attempts, {cost.failed:.0f} failed"
            + (f", of which no fault met {unmet}" if unmet else ""),
            flush=True,
        )
        kept = Path(f"{self.folder}.failed")
        if not all(finding.recovered for finding in judged) and not kept.exists():
            shutil.copytree(root, kept, symlinks=True)
            print(f"not all is recovered: the first such run is kept in {kept}", flush=True)

    def _clear(self) -> None:
        self.cluster.clear()
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()


def main() -> int:
    """Exit status 0 if every fault was recovered and every artifact is as in the undisturbed run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one kind of fault, or several with commas")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    kinds = options.only.split(",") if options.only else KINDS
    with pipeline.fresh_root(folder) as root:
        if not root.is_mount() and "full_disk" in kinds:
            print("no full disk: only root can mount a small filesystem", flush=True)
            kinds = [kind for kind in kinds if kind != "full_disk"]
    chaos = Chaos(folder, kinds, options.faults, options.seed)
    begun = time.monotonic()
    try:
        chaos.go()
    except KeyboardInterrupt:
        print("interrupted: the cluster is brought down")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        chaos.cluster.down()
        shutil.rmtree(folder, ignore_errors=True)
    table.show(chaos.rows, list(chaos.injected))
    print(f"{time.monotonic() - begun:.0f} s")
    recovered = sum(finding.recovered for finding, _ in chaos.rows)
    good = chaos.identical and recovered == options.faults
    numbers = {"faults": len(chaos.rows), "recovered": recovered, "identical": chaos.identical}
    print(json.dumps(numbers | {"goodput": round(chaos.cost.goodput, 3)}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
