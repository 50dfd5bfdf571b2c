"""Machine code is kept for the next process, by many at once, and not needed where nothing can be written."""

import os
import subprocess
import sys

from llmhpc.tokens.machine_code import folders, kept, writable

LOOPS = """
from llmhpc.tokens.machine_code import kept

@kept
def total(numbers):
    found = 0
    for number in numbers:
        found += number
    return found
"""
ADD = "import loops, numpy; print(loops.total(numpy.arange(4)), len(loops.total.stats.cache_hits))"


def start(home, cache):
    (home / "loops.py").write_text(LOOPS)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", ADD], cwd=home, env=environment, stdout=subprocess.PIPE, text=True
    )


def said(process):
    return process.communicate(timeout=300)[0].split()


def test_processes_that_compile_at_once_share_what_they_keep(tmp_path):
    at_once = [start(tmp_path, tmp_path / "cache") for _ in range(3)]
    assert [said(process)[0] for process in at_once] == ["6"] * 3
    assert {path.suffix for path in tmp_path.rglob("cache/**/*.*")} == {".nbi", ".nbc"}
    assert said(start(tmp_path, tmp_path / "cache")) == ["6", "1"]  # read, not compiled


def test_where_nothing_can_be_written_each_process_compiles(tmp_path):
    (tmp_path / "file").touch()
    assert said(start(tmp_path, tmp_path / "file")) == ["6", "0"]


def test_the_first_folder_that_can_be_written_is_taken(tmp_path):
    (tmp_path / "file").touch()
    blocked, free = tmp_path / "file" / "a", tmp_path / "b"
    assert writable([blocked, free, tmp_path]) == free
    assert list(free.iterdir()) == []
    assert writable([blocked]) is None


def test_another_source_has_another_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "loops.py"
    source.write_text("one")
    near, home = folders(source)
    assert near.parent == tmp_path / "__pycache__"
    assert home.parent == tmp_path / "cache" / "llmhpc"
    source.write_text("two")
    assert folders(source)[0] != near


def test_what_is_kept_leaves_numbas_setting_as_it_was():
    import numba

    before = numba.config.CACHE_DIR
    kept(lambda x: x + 1)
    assert before == numba.config.CACHE_DIR
