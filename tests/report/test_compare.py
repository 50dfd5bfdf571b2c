"""A sweep over one setting: which value was best, whether the search should go on, and its picture."""

import json
from pathlib import Path

import pytest

from llmhpc.compare import main
from llmhpc.files import write_json
from llmhpc.report.search import Point, final_loss, findings


@pytest.fixture
def sweep(tmp_path):
    """A launch of trainings with the losses that were asked for; None: it has not come to its end."""

    def make(losses, extra=("",)):
        steps, points = [], []
        for other in extra:
            for lr, loss in losses.items():
                home = tmp_path / f"train-{len(steps):08d}"
                label = f"stages.train.schedule.lr={lr} {other}".strip()
                config = {"schedule": {"lr": lr, "packing": "stretches"}}
                write_json(home / "step.json", {"kind": "train", "config": config})
                if loss is not None:
                    rows = [{"step": n, "loss": 9.0 - n / 10} for n in range(1, 40)]
                    rows.append({"step": 40, "loss": loss})
                    text = "".join(json.dumps(row) + "\n" for row in rows)
                    (home / "metrics.jsonl").write_text(text)
                    write_json(home / "manifest.json", {})
                steps.append({"name": "train", "out": str(home), "points": [label]})
                points.append(label)
        record = {"name": "s", "steps": steps, "points": {key: {} for key in points}}
        write_json(tmp_path / "launches" / "20260101-000000-1-s.json", record)
        return tmp_path

    return make


def test_the_best_rate_is_named_and_drawn(sweep, capsys):
    root = sweep({1e-3: 3.0, 2e-3: 2.0, 4e-3: 2.5})
    assert main([str(root)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[3] == "best schedule.lr=0.002, loss 3.5500"  # the mean of the last two steps
    assert [Path(line).suffix for line in said[4:]] == [".svg", ".png"]
    assert Path(said[4]).read_text().startswith("<?xml")
    assert Path(said[5]).read_bytes().startswith(b"\x89PNG")


def test_a_best_value_at_the_edge_is_said_for_each_line(sweep, capsys):
    root = sweep({1e-3: 2.0, 2e-3: 2.5, 4e-3: None}, extra=("model=llama_4m", "model=llama_1b"))
    out = root / "picture.png"
    assert main([str(root), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    best = "best schedule.lr=0.001, loss 3.5500, the edge of the grid: try smaller ones"
    left = "; 1 of 3 have not come to their end"
    assert f"\nmodel=llama_4m: {best}{left}\nmodel=llama_1b: {best}{left}\n" in said
    assert out.exists()


def test_the_larger_edge_and_what_is_left_are_said():
    here = Path()
    line = [Point(value=v, loss=loss, home=here) for v, loss in ((1.0, 3.0), (2.0, 2.0))]
    assert findings("schedule.lr", {"": line})[0].endswith("try larger ones")
    assert findings("schedule.lr", {"": line[:1]}) == [
        "best schedule.lr=1, loss 3.0000 (the only one)"
    ]
    none = [Point(value=1.0, loss=None, home=here)]
    assert findings("schedule.lr", {"a": none}) == ["a: no training has come to its end"]


def test_steps_that_were_skipped_do_not_count():
    assert final_loss([{"loss": 2.0}, {"loss": None, "skipped": True}]) == 2.0
    assert final_loss([]) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--over", "schedule.rate"],
            "--over schedule.rate: a setting of training, like schedule.lr",
        ),
        (["--over", "schedule.packing"], "--over schedule.packing: stretches is no number"),
        (["--out", "picture.pdf"], "--out picture.pdf: a name that ends in .svg or .png"),
        (["--run", "other"], "run other: no launch below it"),
    ],
)
def test_what_cannot_be_compared_is_one_line(words, message, sweep, capsys):
    root = sweep({1e-3: 2.0, 2e-3: 2.5})
    assert main([str(root), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"llmhpc: {message}")
    assert error.count("\n") == 1
