"""The import arrows of the house point one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATION = {"errors", "files", "config", "task"}
CONCERNS = {"sources", "filters", "dedup", "tokens", "models", "train", "evals", "report", "site"}
BETWEEN_CONCERNS = {"train": {"models", "tokens"}}
FRAMEWORK = {  # a module of llmhpc -> the modules of llmhpc that it may import
    "errors": set(),
    "files": set(),
    "config": {"errors"},
    "task": {"errors", "files"},
    "registry": {"config", "errors"},
    "plan": {"config", "errors"},
    "compose": {"config", "errors", "registry"},
    "provenance": set(),
    "snapshot": {"provenance"},
    "environment": {"config"},
    "scheduler": {"errors"},
    "artifact": {"errors", "files", "plan"},
    "claim": {"artifact", "files", "scheduler"},
    "attempts": {"artifact", "claim", "config", "errors", "files", "scheduler"},
    "recovery": {"attempts", "config"},
    "ledger": {"artifact", "attempts", "files"},
    "step": {
        "artifact", "attempts", "config", "errors", "files", "ledger", "plan", "provenance", "registry", "scheduler",
        "task",
    },
    "state": {"artifact", "attempts", "claim", "config", "files", "plan"},
    "runs": {"artifact", "config", "errors", "files", "plan", "registry"},
    "slurm": {
        "artifact", "attempts", "claim", "config", "environment", "errors", "files", "plan", "recovery", "runs",
        "scheduler", "snapshot", "step",
    },
    "display": {"files", "plan"},
    "local": {
        "artifact", "attempts", "claim", "config", "display", "errors", "files", "plan", "recovery", "state", "step",
    },
    "preflight": {"artifact", "config", "errors", "files", "plan", "site"},
    "launch": {
        "artifact", "compose", "config", "display", "errors", "local", "plan", "preflight", "runs", "slurm", "state",
    },
    "status": {
        "artifact", "claim", "display", "errors", "files", "ledger", "runs", "scheduler", "state", "step",
    },
    "logs": {"artifact", "attempts", "errors", "files", "runs"},
    "cancel": {"artifact", "claim", "errors", "files", "runs", "scheduler"},
    "tick": {"artifact", "config", "display", "errors", "files", "registry", "runs", "slurm"},
    "doctor": {"errors", "site"},
}  # fmt: skip


def own_imports(path: Path) -> set[str]:
    """What a file imports of this project, as module names below llmhpc."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("llmhpc")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "llmhpc":
            inside = node.module == "llmhpc"
            found |= {f"llmhpc.{a.name}" for a in node.names} if inside else {node.module}
    return {name.split(".")[1] for name in found if "." in name}


@pytest.mark.parametrize("module", sorted(p.stem for p in (ROOT / "llmhpc").glob("[a-z]*.py")))
def test_a_module_of_the_framework_imports_only_what_it_may(module):
    assert own_imports(ROOT / "llmhpc" / f"{module}.py") <= FRAMEWORK[module]


@pytest.mark.parametrize("concern", sorted(CONCERNS))
def test_a_concern_knows_the_foundation_the_kernels_and_its_named_neighbours(concern):
    allowed = FOUNDATION | {"kernels", concern} | BETWEEN_CONCERNS.get(concern, set())
    allowed |= {"report": {"artifact"}, "site": {"plan"}}.get(concern, set())
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
