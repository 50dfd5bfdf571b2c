"""Which value of a setting was best: python -m llmhpc.compare [ROOT] [--run WORDS] [--over schedule.lr] [--out FILE]

Compares the trainings of a sweep (python -m llmhpc.launch -m stages.train.schedule.lr=1e-3,2e-3,4e-3), one line for each
combination of what else differs, and draws them to <ROOT>/launches/<launch>.svg and .png, or to FILE.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llmhpc.errors import ArtifactError, ConfigError, denied_in_one_line
from llmhpc.files import read_json
from llmhpc.handoff import artifact, runs

KIND, METRICS = "train", "metrics.jsonl"
SUFFIXES = (".svg", ".png")


def trainings(launch: Path) -> list[tuple[list[str], Path, dict[str, Any]]]:
    """Of a launch: the points that each belongs to, its directory and its settings."""
    found = []
    for step in runs.read(launch)["steps"]:
        home = Path(step["out"])
        order = read_json(home / artifact.STEP)
        if order is not None and order["kind"] == KIND:
            found.append((step.get("points", []), home, order))
    return found


def value_of(config: dict[str, Any], key: str) -> float:
    """The number under a dotted key of a train step's settings. Raises ConfigError."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise ConfigError(f"--over {key}: a setting of training, like schedule.lr")
        node = node[part]
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise ConfigError(f"--over {key}: {node} is no number; a setting like schedule.lr")
    return float(node)


def rest_of(points: list[str], key: str, names: list[str]) -> str:
    """What tells the line of a training from the others: its point without the setting that is compared."""
    words = points[0].split(" ") if points else []
    own = [word for word in words if not word.partition("=")[0].endswith(f".{key}")]
    return " ".join(word.removeprefix("stages.") for word in own if len(names) > 1)


def lines_of(launch: Path, key: str) -> dict[str, list[Any]]:
    """The trainings of a launch as lines of points. Raises ConfigError if there is none."""
    from llmhpc.report.search import Point, final_loss

    found = trainings(launch)
    if not found:
        raise ConfigError(f"run {launch.stem}: it has no training; --run names another launch")
    lines: dict[str, list[Point]] = {}
    for points, home, order in found:
        loss = None
        if artifact.sealed(home):
            rows = (home / METRICS).read_text().splitlines()
            loss = final_loss([json.loads(row) for row in rows])
        point = Point(value=value_of(order["config"], key), loss=loss, home=home)
        lines.setdefault(rest_of(points, key, [str(home) for _, home, _ in found]), []).append(
            point
        )
    return {name: sorted(points, key=lambda p: p.value) for name, points in lines.items()}


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 if a record is not there, 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(prog="python -m llmhpc.compare", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--run", default="", metavar="WORDS", help="part of a launch's name")
    parser.add_argument("--over", default="schedule.lr", metavar="KEY", help="of a train step")
    parser.add_argument("--out", type=Path, metavar="FILE", help="to draw to, .svg or .png")
    options = parser.parse_args(arguments)
    try:
        if options.out is not None and options.out.suffix not in SUFFIXES:
            raise ConfigError(f"--out {options.out}: a name that ends in {' or '.join(SUFFIXES)}")
        launch = runs.find(options.root, options.run)
        lines = lines_of(launch, options.over)
        _tell(launch, options.over, lines, options.out)
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 2
    except ArtifactError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(launch: Path, key: str, lines: dict[str, list[Any]], out: Path | None) -> None:
    from llmhpc.report import search

    for name, points in lines.items():
        for point in points:
            loss = "not at its end" if point.loss is None else f"{point.loss:.4f}"
            print(f"{key}={point.value:<8g} {loss:>14}  {point.home.name}  {name}".rstrip())
    for sentence in search.findings(key, lines):
        print(sentence)
    for path in [out] if out is not None else [launch.with_suffix(end) for end in SUFFIXES]:
        search.save(path, key, lines)
        print(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
