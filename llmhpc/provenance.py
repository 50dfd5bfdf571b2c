"""What made an artifact: commit, versions, host."""

import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "llmhpc",
    "datatrove",
    "fasttext-numpy2-wheel",
    "hydra-core",
    "lighteval",
    "nanotron",
    "numpy",
    "omegaconf",
    "spacy",
    "submitit",
    "tokenizers",
    "torch",
    "trafilatura",
    "transformers",
)


def versions() -> dict[str, str]:
    """Package -> installed version, of the packages that can change a result."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """The commit of the code that runs, with ``+changes`` if files differ from it; "" outside a checkout."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], check=False, capture_output=True, text=True
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        return ""
    if head.returncode:
        return ""
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
