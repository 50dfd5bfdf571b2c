"""The pages of pydoc: the same bytes whoever renders them, and a bad module costs only itself."""

import sys

import pytest

from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Reading, pydoc

SECRET = "hunter2-do-not-print"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a package of the given modules that the children can import; returns its name."""

    def make(**modules):
        folder = tmp_path / "sample_library"
        folder.mkdir()
        for name, source in {"__init__": '"""A library."""\n', **modules}.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        start = f"import sys; sys.path.append({str(tmp_path)!r}); {pydoc.START}"
        monkeypatch.setattr(pydoc, "START", start)
        return folder.name

    return make


def read(cfg, rank=0, ranks=1):
    reading = Reading(rank=rank, ranks=ranks)
    return {page.url.rsplit("/", 1)[1]: page for page in pydoc.pages(cfg, reading)}, reading.skipped


def only(package, **settings):
    return pydoc.Config(packages=[package], standard_library=False, **settings)


def test_pages_do_not_depend_on_the_environment_that_renders_them(monkeypatch, tmp_path):
    cfg = only("yaml")
    first, _ = read(cfg)
    monkeypatch.setenv("SECRET_TOKEN", SECRET)
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/{SECRET}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    second, _ = read(cfg)
    assert len(first) > 10 and first == second


def test_neither_variables_nor_folders_nor_addresses_reach_a_page(package, monkeypatch):
    source = (
        "import os, sys, pathlib\nENVIRONMENT = dict(os.environ)\n"
        "PREFIX = pathlib.Path(sys.prefix) / 'lib'\nMARK = object()\n"
        "def f(a=MARK, b=print, c=len): 'A function.'\nNAMES = {int, str, None, len}\n"
    )
    monkeypatch.setenv("SECRET_TOKEN", SECRET)
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/{SECRET}")
    pages, _ = read(only(package(values=source), min_page_kb=0))
    page = pages["sample_library.values.html"].body
    assert SECRET.encode() not in page
    assert sys.prefix.encode() not in page
    assert b"0x" not in page


def test_a_module_that_crashes_or_hangs_or_fails_costs_only_itself(package):
    name = package(
        a_good='"""Good."""\n',
        b_crash="import os\nos.abort()\n",
        c_hang="import time\ntime.sleep(600)\n",
        d_raise="raise RuntimeError('no')\n",
        e_exit="raise SystemExit(3)\n",
        f_good='"""Good too."""\n',
    )
    pages, skipped = read(only(name, min_page_kb=0, timeout_s=1))
    assert set(pages) == {f"sample_library{m}.html" for m in ("", ".a_good", ".f_good")}
    assert skipped == {"crashed": 1, "took longer than timeout_s": 1, "cannot be imported": 2}


def test_pages_outside_the_bounds_are_counted():
    _, skipped = read(only("yaml", min_page_kb=10, max_page_kb=20))
    assert skipped["smaller than min_page_kb"] and skipped["larger than max_page_kb"]


def test_the_pages_are_the_same_however_many_ranks_share_them(monkeypatch):
    monkeypatch.setattr(pydoc, "MODULES_PER_CHILD", 6)
    whole, _ = read(only("yaml"))
    shares = [read(only("yaml"), rank, 3)[0] for rank in range(3)]
    assert sum(map(len, shares)) == len(whole)
    assert {name: page for share in shares for name, page in share.items()} == whole


def test_listing_modules_imports_none_of_them(package):
    name = package(boom="raise SystemExit('imported')\n", _private="", test_it="", conftest="")
    assert pydoc.modules_of(name) == ["sample_library", "sample_library.boom"]
    assert name not in sys.modules


def test_a_package_that_is_not_installed_is_named_before_the_launch():
    with pytest.raises(ConfigError, match="packages=no_such_package: not installed"):
        only("no_such_package").before_launch(1)


def test_a_child_that_somebody_ends_fails_the_rank_and_costs_no_page(package):
    name = package(a_good="", b_ended="import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    with pytest.raises(
        StageError, match="killed from outside .SIGTERM.: this rank has to run again"
    ):
        read(only(name, min_page_kb=0))
