"""The steps of a run as documents meet them: which step takes whose documents, and what is whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhpc.errors import ConfigError
from llmhpc.files import read_json
from llmhpc.handoff import runs
from llmhpc.handoff.artifact import STEP, sealed

MIX = "mix"
HANDS_ON = {  # kind of a step that passes documents on -> the role of the input they come from
    "filter": "pages",
    "dedup": "documents",
    "shuffle": "documents",
    "tokenize": "documents",
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A step that has been ordered."""

    name: str
    home: Path
    kind: str
    config: dict[str, Any]
    inputs: dict[str, Path]  # by role
    seed: int
    whole: bool

    def sources(self, mix: str = "") -> list[Path]:
        """The steps whose documents it takes; of a mixture the one that plays ``mix``, or all."""
        if self.kind == MIX:
            roles = [mix] if mix in self.inputs else list(self.config["weights"])
        else:
            roles = [HANDS_ON[self.kind]] if self.kind in HANDS_ON else []
        return [self.inputs[role] for role in roles if role in self.inputs]

    def files(self, pattern: str) -> list[Path]:
        """Its files that match, in order."""
        return sorted(self.home.glob(pattern))


class Flow:
    """The steps of one launch, each after its inputs. Raises ConfigError if there is no launch."""

    def __init__(self, root: Path, words: str) -> None:
        record = runs.read(runs.find(root, words))
        found = [_node(Path(step["out"])) for step in record["steps"]]
        self.nodes = {node.home: node for node in found if node is not None}
        self.to_run = [
            step["name"] for step, node in zip(record["steps"], found, strict=True) if node is None
        ]

    def takers(self, home: Path) -> list[Node]:
        """The steps that take the documents of the step in ``home``."""
        return [node for node in self.nodes.values() if home in node.sources()]

    def upstream(self, node: Node, mix: str = "") -> Iterator[Node]:
        """Every step that a document of ``node`` came through, the nearest first, without ``node``."""
        for home in node.sources(mix)[:1]:
            if before := self.nodes.get(home):
                yield before
                yield from self.upstream(before, mix)

    def of_kind(self, kind: str) -> list[Node]:
        """The steps of a kind."""
        return [node for node in self.nodes.values() if node.kind == kind]

    def tokens(self, name: str) -> Node:
        """The sealed tokenize step, the one called ``name`` if there are several. Raises ConfigError."""
        made = [node for node in self.of_kind("tokenize") if node.whole]
        found = [node for node in made if name in ("", node.name, node.home.name)]
        if len(found) == 1:
            return found[0]
        if made:
            raise ConfigError(f"--step {name}: one of {', '.join(n.home.name for n in made)}")
        there = ", ".join(node.name for node in self.nodes.values() if node.whole) or "nothing"
        raise ConfigError(f"no step tokenize of this run is done yet, only {there}")


def _node(home: Path) -> Node | None:
    """The step in ``home``; None if it has not been ordered yet."""
    if (order := read_json(home / STEP)) is None:
        return None
    return Node(
        name=order["name"],
        home=home,
        kind=order["kind"],
        config=order["config"],
        inputs={role: Path(path) for role, path in order["inputs"].items()},
        seed=order["seed"],
        whole=sealed(home),
    )


def came_through(flow: Flow, node: Node, metadata: dict[str, Any]) -> list[dict[str, str]]:
    """For each step before ``node`` what it did with a document, the nearest first, its source at the end."""
    path, alike = [], metadata.get("cluster_size", 1)
    for step in flow.upstream(node, str(metadata.get("mix") or "")):
        what = ""
        if step.kind == "dedup":
            what = "kept" + (f", the best of {alike} alike" if alike > 1 else "")
            alike = 1  # the metadata have the last dedup's
        elif step.kind == "filter":
            what = f"passed {', '.join(step.config['rules']) or 'no rule'}"
        elif step.kind == MIX:
            what = f"of the set {metadata.get('mix')}"
        elif "warc" in metadata and not step.sources():
            what = f"warc/{metadata['warc']}, byte {metadata['warc_offset']}"
        path.append({"step": step.name, "home": str(step.home), "what": what})
    if source := metadata.get("source"):
        what = f"{source}, byte {metadata.get('source_offset', 0)}"
        path.append({"step": "source", "home": "", "what": what})
    return path
