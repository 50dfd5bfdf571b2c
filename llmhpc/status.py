"""How far a run is: python -m llmhpc.status [ROOT] [--json]. The newest launch below ROOT (default: runs)."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from llmhpc import artifact
from llmhpc import step as node
from llmhpc.files import read_json
from llmhpc.state import TO_RUN, state_of


def rows(root: Path) -> list[dict[str, Any]]:
    """Every step of the newest launch: name, state, note, log, out, seconds, counts."""
    launches = sorted((root / "launches").glob("*.json"))
    if not launches:
        return []
    launch = read_json(launches[-1])
    return [_row(name, Path(out)) for name, out in launch["steps"].items()]


def _row(name: str, home: Path) -> dict[str, Any]:
    manifest = read_json(home / artifact.MANIFEST) or {}
    row: dict[str, Any] = {"name": name, "state": TO_RUN, "note": "", "log": "", "out": str(home)}
    if (home / artifact.STEP).exists():
        state = state_of(home, node.stage_of(home).phases())
        row |= {"state": state.word, "note": state.note, "log": state.log}
    return row | {"seconds": manifest.get("seconds"), "counts": manifest.get("counts")}


def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 if a step failed, 2 if there is no run."""
    parser = argparse.ArgumentParser(prog="python -m llmhpc.status", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--json", action="store_true", help="machine-readable")
    options = parser.parse_args(arguments)
    found = rows(options.root)
    if not found:
        print(
            f"llmhpc: root {options.root}: no launch below it; python -m llmhpc.launch makes one",
            file=sys.stderr,
        )
        return 2
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        _table(found)
    return int(any(row["state"] == "failed" for row in found))


def _table(found: list[dict[str, Any]]) -> None:
    for row in found:
        seconds = f"{row['seconds']:8.1f} s" if row["seconds"] is not None else " " * 10
        print(f"{row['name']:10} {row['state']:8} {seconds}  {row['note'] or row['out']}")
        if row["state"] == "failed":
            print(f"{'':10} log: {row['log'] or Path(row['out']) / artifact.LOGS}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
