"""Our scoring beside lighteval's own back end and lm-evaluation-harness: the same items, the same model.

    python -m benchmarks.evals [--items 250] [--json]

Llamas with random weights and tokenizers of 4,096 and 32,768 tokens, and four-way questions, made on the spot;
each side in a process of its own, on one thread, in float32 (ten minutes). lighteval takes the batch size that
is the fastest on its first questions. lm-evaluation-harness is compared where it is installed (make install
does). Memory is what scoring takes beyond the loaded model.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.evals import material

VOCABULARIES = (4096, 32768)
SHOTS = 5
TRIAL = 40  # questions by which lighteval's batch size is chosen
BATCHES = (8, 32, 64)
OURS = 1024  # positions of a batch: the fastest on a CPU
MANY = 1000  # questions, by our side alone


@dataclass(slots=True)
class Row:
    """One set of questions, scored by both."""

    what: str
    goal: float  # times faster
    items: int
    ours_cpu_s: float
    lighteval_cpu_s: float
    lighteval_batch: int
    faster: float
    ours_mb: float
    lighteval_mb: float
    equal: bool  # acc and acc_norm
    greatest_difference: float  # of a log-likelihood, in nats
    acc: float
    acc_norm: float
    acc_norm_token: float


class Bench:
    """The material below one folder, and the sides run on it."""

    def __init__(self, folder: Path, items: int) -> None:
        self.folder = folder
        self.items = items

    def make(self) -> dict[int, int]:
        """Write everything; parameters of each model by its vocabulary."""
        for name, count, shots in (
            ("one", 1, 0), ("trial", TRIAL, 0), ("questions", self.items, 0), ("many", MANY, 0),
            ("shown", self.items // 5, SHOTS),
        ):  # fmt: skip
            self._write(name, material.questions(count, shots))
        self._write("texts", material.texts(8))
        return {v: material.write_model(self.folder / f"model-{v}", v) for v in VOCABULARIES}

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        material.write_rows(self.folder / name / "test.jsonl", rows)

    def side(self, side: str, vocabulary: int, questions: str, batch: int = OURS) -> dict[str, Any]:
        """What a side says of itself."""
        data = self.folder / questions / "test.jsonl"
        command = [sys.executable, "-m", "benchmarks.evals.sides", side]
        command += [
            str(self.folder / f"model-{vocabulary}"),
            str(data),
            str(self.folder / "scratch"),
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, "--batch", str(batch)],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{side}: {done.stderr.strip().splitlines()[-1]}")
        return json.loads(done.stdout.splitlines()[-1])

    def compare(self, what: str, goal: float, vocabulary: int, questions: str) -> Row:
        """Ours and lighteval."""
        trials = {b: self.side("lighteval", vocabulary, "trial", b)["cpu_s"] for b in BATCHES}
        batch = min(trials, key=lambda b: trials[b])
        theirs = self.side("lighteval", vocabulary, questions, batch)
        ours = self.side("ours", vocabulary, questions)
        scores = ours["scores"]
        return Row(
            what, goal, len(ours["answers"]),
            round(ours["cpu_s"], 2), round(theirs["cpu_s"], 2), batch,
            round(theirs["cpu_s"] / ours["cpu_s"], 2),
            round(ours["memory_mb"]), round(theirs["memory_mb"]),
            all(scores[name] == theirs["scores"][name] for name in ("acc", "acc_norm")),
            _difference(ours, theirs),
            *(scores[name] for name in ("acc", "acc_norm", "acc_norm_token")),
        )  # fmt: skip

    def lm_eval(self) -> dict[str, Any] | None:
        """Agreement on the smaller vocabulary; None where lm-eval is not installed."""
        if importlib.util.find_spec("lm_eval") is None:
            return None
        ours = self.side("ours", VOCABULARIES[0], "questions")
        theirs = self.side("lm_eval", VOCABULARIES[0], "questions", BATCHES[0])
        mine, yours = ours["scores"], theirs["scores"]
        return {
            "acc_equal": mine["acc"] == yours["acc"],
            "acc_norm_equal_without_the_space": mine["acc_norm_without_space"] == yours["acc_norm"],
            "acc_norm": mine["acc_norm"],
            "lm_eval_acc_norm": yours["acc_norm"],
            "greatest_difference": _difference(ours, theirs),
            "lm_eval_cpu_s": round(theirs["cpu_s"], 2),
        }

    def others(self) -> dict[str, Any]:
        """Start-up, many questions, and whole texts."""
        start = {s: self.side(s, VOCABULARIES[0], "one", BATCHES[0]) for s in ("ours", "lighteval")}
        many = self.side("ours", VOCABULARIES[0], "many")
        texts = self.side("texts", VOCABULARIES[0], "texts")
        return {
            "start_cpu_s": {side: round(told["process_cpu_s"], 2) for side, told in start.items()},
            "many": {"items": MANY, "cpu_s": round(many["cpu_s"], 2)},
            "texts": {
                "tokens": texts["tokens"],
                "nats": texts["nats"],
                "difference_from_a_plain_loop": abs(texts["nats"] - texts["plain_nats"]),
            },
        }


def main() -> None:
    """Print a line for each comparison, and JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=250)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.items)
        parameters = bench.make()
        rows = []
        for what, goal, vocabulary, questions in (
            ("vocabulary 4,096", 2, VOCABULARIES[0], "questions"),
            ("vocabulary 32,768", 5, VOCABULARIES[1], "questions"),
            (f"vocabulary 4,096, {SHOTS} examples", 2, VOCABULARIES[0], "shown"),
        ):
            rows.append(bench.compare(what, goal, vocabulary, questions))
            _say(_line(rows[-1]))
        others = bench.others()
        _say(
            f"start to the first score: {others['start_cpu_s']['ours']} CPU s, lighteval "
            f"{others['start_cpu_s']['lighteval']}\n{MANY} questions: {others['many']['cpu_s']} CPU s\n"
            f"{others['texts']['tokens']} tokens of text: {others['texts']['nats']:.4f} nats, "
            f"{others['texts']['difference_from_a_plain_loop']:.1g} from a plain loop"
        )
        agreement = bench.lm_eval()
        _say(f"lm-eval: {agreement or 'not installed, left out (make install)'}")
    if options.json:
        told = {"rows": [asdict(row) for row in rows], "lm_eval": agreement}
        print(json.dumps({"parameters": parameters} | told | others))


def _line(row: Row) -> str:
    return (
        f"{row.what}: {row.faster}x (goal {row.goal}) {row.ours_cpu_s} CPU s against {row.lighteval_cpu_s} "
        f"(batch {row.lighteval_batch}) for {row.items}; {row.ours_mb} MB against {row.lighteval_mb}; "
        f"acc {row.acc}, acc_norm {row.acc_norm}: {'equal' if row.equal else 'NOT equal'}; "
        f"acc_norm_token {row.acc_norm_token}"
    )


def _difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The greatest of any choice of any item."""
    pairs = zip(one["answers"], other["answers"], strict=True)
    return max(abs(a - b) for mine, yours in pairs for a, b in zip(mine, yours, strict=True))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
