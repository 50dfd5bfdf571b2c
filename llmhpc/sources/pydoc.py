"""The pages that Python's own pydoc renders for the standard library and for installed packages.

Real pages with boilerplate, code and near-duplicates, and no network: the quickstart's source. The same
Python and the same packages give the same bytes on every machine.
"""

import importlib.util
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.sources import Page, Reading, Source, deal, enough
from llmhpc.task import check_child

STANDARD = "python"  # the standard library's name among the packages
MODULES_PER_CHILD = (
    40  # an import costs once per child; a page must not depend on the number of ranks
)
RENDERER = Path(__file__).with_name("render.py")
START = "import runpy, sys; del sys.path[0]; runpy.run_path(sys.argv.pop(1), run_name='__main__')"

# What the children see of the environment: pydoc prints os.environ, and sets are ordered by hash seed.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
    "PYTHONHASHSEED": "0",
    "SOURCE_DATE_EPOCH": "946684800",  # for modules that note the time of their import
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
FOLDER = "/"  # where the children run

# Parts of a module's name that are not documentation of a library, or run something when imported.
NOT_PAGES = {"test", "tests", "testing", "conftest", "setup", "__main__"}
# Of the standard library: demos, jokes, what only some builds or platforms have, what describes this machine.
NOT_STANDARD = {
    *(
        "antigravity",
        "idlelib",
        "lib2to3",
        "this",
        "turtle",
        "turtledemo",
        "ensurepip",
        "pydoc_data",
    ),
    *("crypt", "curses", "dbm", "msilib", "msvcrt", "nis", "nt", "ossaudiodev", "readline", "spwd"),
    *("tkinter", "winreg", "winsound", "posix", "site", "sys", "sysconfig"),
}


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """Which packages, and how large a page may be."""

    kind: str = "pydoc"
    standard_library: bool = True
    packages: list[str] = field(default_factory=list)  # import names; they must be installed
    url: str = "https://docs.example.org"
    min_page_kb: float = 2.0  # smaller: a heading and little else
    max_page_kb: float = 400.0  # a few pages have many megabytes
    timeout_s: int = 60  # to import and render one module

    def __post_init__(self) -> None:
        at_least(self, "min_page_kb", 0)
        at_least(self, "max_page_kb", self.min_page_kb)
        at_least(self, "timeout_s", 1)
        if not self.packages and not self.standard_library:
            raise ConfigError("packages=[]: one or more, or standard_library=true")

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError for a package that is not installed, or more ranks than there is work for."""
        enough(len(_groups(self)), ranks, f"groups of {MODULES_PER_CHILD} modules")


def pages(cfg: Config, reading: Reading) -> Iterator[Page]:
    """The pages of one rank, module names in order."""
    groups = deal(_groups(cfg), reading, f"groups of {MODULES_PER_CHILD} modules")
    total, done = sum(map(len, groups)), 0
    for group in groups:
        for module, html in _render(group, cfg.timeout_s, reading):
            done += 1
            reading.progress(done, total, "pages")
            if html is None:
                continue
            if len(html) < cfg.min_page_kb * 1024:
                reading.skipped["smaller than min_page_kb"] += 1
            elif len(html) > cfg.max_page_kb * 1024:
                reading.skipped["larger than max_page_kb"] += 1
            else:
                yield Page(url=_url(cfg, module), body=html, file=f"pydoc:{module}")


def modules_of(package: str) -> list[str]:
    """The public modules of an installed top-level package, by its files: nothing is imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise ConfigError(
            f"packages={package}: not installed; the import name of an installed package"
        )
    names = [package, *_below(package, list(spec.submodule_search_locations or []))]
    return [name for name in names if _is_page(name)]


def _below(package: str, folders: list[str]) -> Iterator[str]:
    for module in sorted(pkgutil.iter_modules(folders), key=lambda module: module.name):
        name = f"{package}.{module.name}"
        yield name
        if module.ispkg:
            yield from _below(name, [str(Path(folder) / module.name) for folder in folders])


def _is_page(module: str) -> bool:
    parts = module.split(".")
    return not any(p in NOT_PAGES or p.startswith(("_", "test_")) for p in parts)


def _standard_packages() -> list[str]:
    names = (
        name for name in sys.stdlib_module_names if name not in NOT_STANDARD and _is_page(name)
    )
    return sorted(name for name in names if importlib.util.find_spec(name))


def _groups(cfg: Config) -> list[list[str]]:
    """Module names in the pieces that one child renders: the same pieces however many ranks there are."""
    standard = _standard_packages() if cfg.standard_library else []
    libraries = [[m for package in standard for m in modules_of(package)]]
    libraries += [modules_of(package) for package in cfg.packages]
    return [
        modules[start : start + MODULES_PER_CHILD]
        for modules in libraries
        for start in range(0, len(modules), MODULES_PER_CHILD)
    ]


def _url(cfg: Config, module: str) -> str:
    top = module.split(".")[0]
    package = STANDARD if top in sys.stdlib_module_names else top
    return f"{cfg.url}/{package}/{module}.html"


def _render(
    modules: list[str], timeout_s: int, reading: Reading
) -> Iterator[tuple[str, bytes | None]]:
    """Each module with its page, or None where there is none (counted in ``reading.skipped``).

    A child that dies costs the module at which it died; another child goes on behind it.
    """
    left = list(modules)
    while left:
        ended = yield from _one_child(left, timeout_s, reading)
        if left:
            cause = "took longer than timeout_s" if ended == -signal.SIGALRM else "crashed"
            reading.skipped[cause] += 1
            yield left.pop(0), None


def _one_child(
    left: list[str], timeout_s: int, reading: Reading
) -> Generator[tuple[str, bytes | None], None, int]:
    """The pages of one child process, taking rendered modules off ``left``; returns its exit status."""
    read_end, write_end = os.pipe()
    loader = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    command = [sys.executable, "-s", "-B", "-W", "ignore", "-c", START, str(RENDERER)]
    with os.fdopen(read_end, "rb") as pipe:
        child = subprocess.Popen(
            [*command, str(write_end), str(timeout_s), *left],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[write_end],
            env=ENVIRONMENT | loader,
            cwd=FOLDER,
        )
        os.close(write_end)
        try:
            while line := pipe.readline():
                frame = json.loads(line)
                html = pipe.read(max(0, frame["bytes"]))
                if len(html) < frame["bytes"]:
                    break
                left.remove(frame["module"])
                if frame["bytes"] < 0:
                    reading.skipped["cannot be imported"] += 1
                yield frame["module"], html if frame["bytes"] >= 0 else None
        except BaseException:  # nobody wants the rest
            child.kill()
            raise
        finally:
            child.wait()
    check_child(child.returncode)
    return child.returncode
