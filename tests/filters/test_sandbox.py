"""The extractor's child process goes with its parent."""

import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import sys, time
from llmhpc.filters.blocks.extract import Sandbox
with Sandbox(timeout=30) as sandbox:
    sandbox.process_document("x", str.upper)
    print(sandbox.process.pid, flush=True)
    time.sleep(60)
"""


def test_a_killed_parent_leaves_no_child_behind():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < until, "the child waits for ever"
        time.sleep(0.1)
