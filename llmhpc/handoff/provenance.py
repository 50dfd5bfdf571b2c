"""What made an artifact: commit, versions, host."""

import subprocess
from importlib import metadata
from pathlib import Path

COMMIT = "commit.txt"
PACKAGE = Path(__file__).resolve().parents[1]
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
    """The commit of the code that runs, with ``+changes`` if files differ from it; "" where there is none."""
    if (noted := PACKAGE.parent / COMMIT).exists():  # a snapshot knows where it came from
        return noted.read_text()
    head = _git("rev-parse", "HEAD").strip()
    return head + ("+changes" if head and _git("status", "--porcelain", "-uno").strip() else "")


def changes() -> str:
    """What differs from that commit, as a diff; new files that git does not know are not in it."""
    return _git("diff", "HEAD", "--", ":/")


def _git(*words: str) -> str:
    """What git says of the checkout that this code lies in; "" outside of one."""
    git = ["git", "-C", str(PACKAGE)]
    try:
        call = subprocess.run([*git, *words], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return "" if call.returncode else call.stdout
