"""The code that a run uses: copied under its root at submission, so that an edited checkout never changes a queued job.

code/<12 hex>/llmhpc/  the package, whole    commit.txt  changes.diff  what it came from
"""

import hashlib
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from llmhpc.handoff import provenance

CODE = "code"
ELSEWHERE = ("jobs", "kernels", "conf")  # in a checkout these lie beside the package
DIGITS = 12


def take(root: Path) -> Path:
    """The folder for PYTHONPATH that holds this code; made unless the same code is there already."""
    files = _files()
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    target = root / CODE / digest.hexdigest()[:DIGITS]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=".partial-"))
    for name, path in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, partial / name)
    (partial / provenance.COMMIT).write_text(provenance.commit())
    (partial / "changes.diff").write_text(provenance.changes())
    partial.chmod(target.parent.stat().st_mode)  # a temporary folder is its maker's alone
    try:
        partial.rename(target)
    except OSError:  # another launcher was faster with the same
        shutil.rmtree(partial)
    return target


def _files() -> dict[str, Path]:
    """Name below the snapshot -> file, of everything but what Python compiles."""
    found = {}
    folders = {"llmhpc": resources.files("llmhpc")}
    folders |= {f"llmhpc/{name}": resources.files(f"llmhpc.{name}") for name in ELSEWHERE}
    for place, folder in folders.items():
        base = Path(str(folder))
        for path in base.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{place}/{path.relative_to(base)}"] = path
    return found
