"""Where an evaluate step has what; the rest of what it holds is read by nobody but people."""

from pathlib import Path

SCORES, DOMAINS, ITEMS = "scores.jsonl", "domains.jsonl", "items"


def scores_of(home: Path, step: int) -> Path:
    """Scores of one checkpoint, and the hashes of what was asked of whom."""
    return home / "scores" / f"{step:06d}.json"


def items_of(home: Path, step: int) -> Path:
    """Its answer to each item."""
    return home / ITEMS / f"{step:06d}.parquet"
