"""Section: what the tokenizer shows by itself: how it packs which texts, its tokens, what may become a glitch."""

from typing import Any

from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Tokenizer"
INSPECTION = "inspection.json"
TOKENS = 12  # of a list
GROUPS = 8  # of a field
LISTS = {
    "longest": "Longest",
    "last": "Last merged, the rarest",
    "unreachable": "No text is encoded to them",
    "inside_others": "Hardly seen but inside others",
    "one_document": "Seen in one document only",
    "parts_of_characters": "Parts of characters",
}


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """The inspection of each tokenizer step."""
    seen = [_shown(step.name, step.json(INSPECTION)) for step in history.with_file(INSPECTION)]
    return {"tokenizers": seen} if seen else None


def _shown(name: str, seen: dict[str, Any]) -> dict[str, Any]:
    glitches = seen["glitches"]
    lists = [
        (
            title,
            key in glitches and found["count"],
            [_visible(entry) for entry in found["first"][:TOKENS]],
        )
        for key, title in LISTS.items()
        if (found := glitches.get(key) or seen[key])["count"]
    ]
    groups = {key: entries[:GROUPS] for key, entries in seen["groups"].items()}
    return seen | {"name": name, "groups": groups, "lists": lists}


def _visible(entry: dict[str, Any]) -> dict[str, Any]:
    """A token whose blanks and line ends can be seen."""
    escaped = entry["token"].replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return entry | {"token": escaped.replace(" ", "\u2423")}
