"""Data sets of the Hugging Face hub: by commit, from the cache, and from the network only if asked for."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from llmhpc.errors import ConfigError, StageError
from llmhpc.evals.tasks import Material
from llmhpc.planning.registry import load

NAME = "allenai/ai2_arc"
COMMIT = "210d026faf9955653af8916fad021475a3f00453"


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(monkeypatch):
    """A server that has files as the hub has them: (address, what was asked of it)."""
    files: dict[str, bytes] = {}
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if NAME not in self.path:
                return self.send_error(404)
            if self.path.startswith("/api/"):
                entries = [
                    {"type": "file", "path": n, "rfilename": n, "size": len(b), "oid": "0" * 40}
                    for n, b in files.items()
                ]
                is_tree = f"/tree/{COMMIT}" in self.path
                body = json.dumps(
                    entries if is_tree else {"id": NAME, "sha": COMMIT, "siblings": entries}
                ).encode()
            else:
                body = files[self.path.split(f"/resolve/{COMMIT}/")[1]]
            self.send_response(200)
            self.send_header("ETag", '"' + "0" * 40 + '"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield files, asked
    server.shutdown()


def refused(cfg) -> str:
    with pytest.raises(ConfigError) as at_launch:
        cfg.before_launch()
    with pytest.raises(ConfigError) as later:
        load("task", cfg.kind).ask(cfg, "name", Material())
    assert str(at_launch.value) == str(later.value)
    return str(later.value)


def test_a_data_set_is_fixed_by_its_commit(task, monkeypatch):
    for offline in "01":
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        assert refused(task("arc_easy", revision="main")) == (
            "revision=main: the commit of allenai/ai2_arc, 40 hex digits"
        )
        assert refused(task("choice", hub=NAME)).startswith("revision=not set: the commit of")


@pytest.mark.parametrize("offline", ["1", None])
def test_the_network_is_not_asked_unless_the_user_says_so(offline, task, cache, hub, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    assert refused(task("arc_easy")) == (
        f"hub=allenai/ai2_arc: its commit {COMMIT} is not in {cache};"
        " HF_HUB_OFFLINE=0 downloads it, data_dir=FOLDER reads a copy"
    )
    assert hub[1] == []


def test_a_cached_data_set_is_read_without_the_network(ask, folder, row, cache, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    copy = folder([row("arc_easy")], "ARC-Easy/test-00000-of-00001.parquet")
    snapshot = cache / f"datasets--allenai--ai2_arc/snapshots/{COMMIT}"
    snapshot.parent.mkdir(parents=True)
    copy.rename(snapshot)
    cloze, _ = ask("arc_easy")
    assert [item.id for item in cloze.items] == ["Mercury_7220990"]
    assert hub[1] == []


def test_only_the_files_of_the_split_are_downloaded_and_then_they_are_cached(
    ask, folder, row, cache, hub, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    files, asked = hub
    copy = folder([row("arc_easy")], "test.parquet")
    for name in ("ARC-Easy/test", "ARC-Easy/train", "ARC-Challenge/test"):
        files[f"{name}-00000-of-00001.parquet"] = (copy / "test.parquet").read_bytes()
    cloze, _ = ask("arc_easy")
    assert [item.id for item in cloze.items] == ["Mercury_7220990"]
    fetched = {path.rpartition("/resolve/")[2] for path in asked if "/resolve/" in path}
    assert fetched == {f"{COMMIT}/ARC-Easy/test-00000-of-00001.parquet"}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked.clear()
    assert ask("arc_easy")[0] == cloze
    assert asked == []


def test_what_the_hub_refuses_is_one_line(task, cache, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    cfg = task("choice", hub="allenai/other", revision=COMMIT)
    cfg.before_launch()
    with pytest.raises(StageError, match="^hub=allenai/other: [^\n]*404 Not Found[^\n]*$"):
        load("task", cfg.kind).ask(cfg, "name", Material())
