"""The import arrows of the house point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"errors", "files", "config", "task", "processes"}
CONCERNS = {
    "sources",
    "filters",
    "dedup",
    "generation",
    "tokens",
    "models",
    "train",
    "evals",
    "report",
    "site",
    "inspection",
}
BETWEEN_CONCERNS = {
    "train": {"models", "tokens"},
    "filters": {"tokens", "sources"},
    "inspection": {"tokens", "filters", "sources"},
    "generation": {"dedup", "tokens"},
}
RECORDS = {"errors", "files", "config", "planning", "handoff"}
FRAMEWORK = {  # a module or a package of llmhpc -> those of llmhpc that it may import
    "errors": set(),
    "files": set(),
    "config": {"errors"},
    "task": {"errors", "files"},
    "processes": {"config", "errors", "files"},
    "scheduler": {"errors"},
    "planning": {"config", "errors"},
    "handoff": {"config", "errors", "files", "planning", "scheduler"},
    "step": RECORDS | {"scheduler", "task"},
    "display": {"files", "planning"},
    "executors": RECORDS | {"display", "scheduler", "step"},
    "preflight": RECORDS | {"site"},
    "launch": RECORDS | {"display", "executors", "preflight"},
    "status": RECORDS | {"display", "scheduler", "step"},
    "logs": RECORDS,
    "compare": {"errors", "files", "handoff", "report"},
    "tracing": RECORDS | {"dedup", "sources", "tokens", "train"},
    "trace": {"errors", "tracing"},
    "reshard": RECORDS | {"models", "processes", "train"},
    "model_of": {"errors", "files", "models", "planning", "tokens", "train"},
    "to_gguf": {"errors", "files", "models", "tokens", "train"},
    "cancel": RECORDS | {"scheduler"},
    "tick": RECORDS | {"display", "executors"},
    "doctor": {"errors", "site"},
}


def own_imports(path: Path) -> set[str]:
    """What a file imports of this project: modules and packages right below llmhpc."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("llmhpc")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "llmhpc":
            inside = node.module == "llmhpc"
            found |= {f"llmhpc.{a.name}" for a in node.names} if inside else {node.module}
    return {name.split(".")[1] for name in found if "." in name}


def units() -> set[str]:
    """Modules and packages of the framework."""
    modules = {path.stem for path in (ROOT / "llmhpc").glob("[a-z]*.py")}
    return modules | {p.parent.name for p in (ROOT / "llmhpc").glob("*/__init__.py")} - CONCERNS


@pytest.mark.parametrize("unit", sorted(units()))
def test_a_part_of_the_framework_imports_only_what_it_may(unit):
    path = ROOT / "llmhpc" / unit
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        assert own_imports(file) <= FRAMEWORK[unit] | {unit}, file


@pytest.mark.parametrize("concern", sorted(CONCERNS))
def test_a_concern_knows_the_foundation_the_kernels_and_its_named_neighbours(concern):
    allowed = FOUNDATION | {"kernels", concern} | BETWEEN_CONCERNS.get(concern, set())
    allowed |= {
        "report": {"handoff"}, "inspection": {"handoff"}, "evals": {"handoff"}, "site": {"planning"}
    }.get(concern, set())  # fmt: skip
    for path in (ROOT / "llmhpc" / concern).rglob("*.py"):
        assert own_imports(path) <= allowed, path


def test_jobs_know_the_concerns_and_the_foundation_only():
    for path in (ROOT / "jobs").glob("*.py"):
        assert own_imports(path) <= CONCERNS | FOUNDATION, path


def test_kernels_import_nothing_of_ours_but_kernels():
    for path in (ROOT / "kernels").glob("*.py"):
        assert own_imports(path) <= {"kernels"}, path


@pytest.mark.parametrize(("engine", "homes"), [
    ("nanotron", {"llmhpc/train", "llmhpc/models"}),
    ("lighteval", {"llmhpc/evals"}),
])  # fmt: skip
def test_only_one_folder_knows_an_engine(engine, homes):
    for folder in ("llmhpc", "jobs", "kernels"):
        for path in (ROOT / folder).rglob("*.py"):
            names = set()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom):
                    names.add((node.module or "").split(".")[0])
            if engine in names:
                assert any(str(path.relative_to(ROOT)).startswith(home) for home in homes), path


def test_every_package_is_listed_for_installation():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "llmhpc").rglob("__init__.py")
    } | {f"llmhpc.{name}" for name in ("jobs", "kernels", "conf")}
    assert listed == there
