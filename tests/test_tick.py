"""A step forward from cron for runs without Slurm: whoever wants to know is told, once."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ONE_STEP = [
    "cluster=debug", "stage/collect@stages.collect=html", "stages.collect.ranks=1",
    *(f"~stages.{name}" for name in ("filter", "dedup", "shuffle", "tokenizer", "tokenize", "train", "evaluate", "verdict", "inspect", "report")),
    "~model", "~parallel", "~schedule",
]  # fmt: skip


def run(module: str, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", f"llmhpc.{module}", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture
def collect(tmp_path):
    """Launches a run of one step, and ticks below its root."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.html").write_text("<html><body><p>One page.</p></body></html>")
    root = tmp_path / "runs"

    def launch(*more: str) -> subprocess.CompletedProcess:
        folder = f"stages.collect.source.folder={tmp_path / 'pages'}"
        return run("launch", *ONE_STEP, folder, f"root={root}", *more)

    return launch, lambda: run("tick", str(root)).stdout


@pytest.fixture
def webhook():
    """An address, and what was posted to it; the first answer is that it cannot be done now."""
    posted: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(503 if len(posted) == 1 else 200)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/done", posted
    server.shutdown()


def test_a_webhook_is_told_once_and_again_if_it_could_not_take_it(collect, webhook):
    launch, tick = collect
    address, posted = webhook
    done = launch(f"notify.webhook={address}")
    assert done.returncode == 0, done.stderr
    assert "notify failed: HTTP Error 503" in tick()
    assert tick().endswith(": told\n")
    assert tick() == ""
    assert len(posted) == 2
    assert (posted[1]["state"], posted[1]["why"]) == ("done", "")


def test_a_budget_that_is_spent_starts_nothing_more_on_this_machine(collect, tmp_path):
    launch, _ = collect
    two_steps = [word for word in ONE_STEP if word != "~stages.filter"]
    folder = f"stages.collect.source.folder={tmp_path / 'pages'}"
    root, budget = tmp_path / "runs", "cluster.budget.cpu_hours=1e-9"
    stopped = run("launch", *two_steps, folder, budget, f"root={root}")
    assert stopped.returncode == 1
    assert "filter failed: cluster.budget.cpu_hours=1e-09: 0.00 are used" in stopped.stderr
    assert list(root.glob("collect-*/manifest.json"))
    assert not list(root.glob("filter-*/attempts/main-*"))
    again = launch(budget)
    assert again.returncode == 0  # what it asks for is done already


def test_cancel_ends_a_run_that_a_script_put_in_the_background(tmp_path):
    words = [w for w in ONE_STEP if not w.startswith(("stage/", "cluster=", "stages.collect"))]
    root = tmp_path / "runs"
    command = [sys.executable, "-m", "llmhpc.launch", *words, "cluster=local", f"root={root}"]
    quiet = subprocess.DEVNULL
    ignores_ctrl_c = ["env", "--ignore-signal=INT", *command]  # as a shell starts it with &
    launcher = subprocess.Popen(ignores_ctrl_c, cwd=ROOT, stdout=quiet, stderr=quiet)
    while not list(root.glob("collect-*/attempts/*.json")):
        assert launcher.poll() is None
        time.sleep(0.1)
    cancelled = run("cancel", "--root", str(root))
    assert "cancelled: collect-" in cancelled.stdout, cancelled.stderr
    assert launcher.wait(timeout=60) == 130
    assert not list(root.glob("collect-*/manifest.json"))
