"""What the documents promise is there: links, folders of the tree, commands that plan."""

import re
import shlex
from pathlib import Path

import pytest

from llmhpc.planning.compose import compose, points
from llmhpc.planning.plan import plan

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(ROOT.glob("*.md"))
README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize(
    "command", re.findall(r"^python -m llmhpc\.launch.*$", BLOCKS, re.MULTILINE)
)
def test_every_launch_in_the_readme_plans(command):
    words = shlex.split(command)[3:]
    many = points([word for word in words if word != "-m"]) if "-m" in words else {}
    assert all(map(plan, many.values())) if many else plan(compose(words))


def test_every_module_of_the_framework_is_in_the_tree():
    tree = README.split("## The tree")[1].split("## Words")[0]
    for module in (ROOT / "llmhpc").glob("[a-z]*.py"):
        if module.stem not in ("errors", "provenance"):
            assert re.search(rf"\b{module.stem}\b", tree), module.stem
    for folder in ("conf", "jobs", "kernels", "sbatch", "tests"):
        assert f"{folder}/" in tree
    for package in (ROOT / "llmhpc").glob("*/__init__.py"):
        assert f"{package.parent.name}/" in tree, package


def test_every_script_the_readme_names_is_there_and_can_be_run():
    for name in set(re.findall(r"sbatch/\w+(?:\.sbatch|\.scrontab)?", README)):
        assert (ROOT / name).is_file(), name
    assert (ROOT / "sbatch" / "devcluster").stat().st_mode & 0o111
