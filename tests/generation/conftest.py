"""A server that speaks OpenAI's API, with the faults that servers have, and stages that ask it."""

import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmhpc.generation import Sampling
from llmhpc.generation.backends import endpoint
from llmhpc.generation.recipes import cosmopedia, rephrase
from llmhpc.jobs import generate

MODEL = "test-model"
WORDS = "the a river stone model bread answer because under light very slowly makes finds holds"


def spoken(prompt: str, seed: int) -> tuple[str, str]:
    """(answer, finish reason), which follow from the prompt and the seed."""
    draw = random.Random(f"{prompt}{seed}")
    text = " ".join(draw.choices(WORDS.split(), k=draw.randint(30, 60))) + "."
    for mark, answer in {
        "DECLINE": ("I'm sorry, but I cannot write that.", "stop"),
        "NOTHING": ("  \n", "stop"),
        "LONG": (text, "length"),
        "BLOCKED": ("", "content_filter"),
    }.items():
        if mark in prompt:
            return answer
    return text, "stop"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        fault = self.server.log(prompt, body, self.headers, self.path)
        chat = self.path == "/v1/chat/completions"
        text, reason = spoken(prompt, body["seed"])
        choice = {"index": 0, "finish_reason": reason}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        answer = {"id": "x", "object": "x", "created": 0, "model": body["model"], "choices": [choice],
                  "usage": usage | {"total_tokens": sum(usage.values())}}  # fmt: skip
        self.reply(json.dumps(answer).encode(), fault)

    def reply(self, answer: bytes, fault):
        status = fault if isinstance(fault, int) else 200
        kind = "text/html" if fault == "page" else "application/json"
        if fault in ("garbage", "page"):
            answer = b"<html>proxy</html>"
        elif fault == "no choices":
            answer = b'{"id": "x", "object": "x", "created": 0, "model": "m", "choices": []}'
        elif status != 200:
            answer = json.dumps({"error": {"message": f"fault {status}"}}).encode()
        if fault == "hang":
            time.sleep(3)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if fault == "half":
            self.wfile.write(answer[: len(answer) // 2])
            self.close_connection = True
            return
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """``fault(number, prompt)`` is asked for every request, from 1 on: a status, the name of a fault, or None."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()  # prompt -> how often
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.paths: set[str] = set()
        self.fault = lambda number, prompt: None
        self.delay_s = 0.0

    def log(self, prompt, body, headers, path):
        with self.lock:
            self.asked[prompt] += 1
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self.paths.add(path)
            number = len(self.bodies)
        time.sleep(self.delay_s)
        return self.fault(number, prompt)

    def handle_error(self, request, client_address):
        pass  # a client that was killed


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def lessons(**settings):
    """24 requests: 3 topics, 2 audiences, 2 styles, twice each."""
    common = {
        "topics": {"soil": "how soil forms", "sound": "how sound is made", "maps": "how maps are drawn"},
        "audiences": {"children": "a child", "adults": "an adult"},
        "styles": {"lesson": "Write a lesson.", "story": "Write a story."},
        "each": 2,
    }  # fmt: skip
    return cosmopedia.Config(**(common | settings))


def restyle(**settings):
    styles = {"simple": "Say it simply: {text}", "concise": "Say it in few words: {text}"}
    return rephrase.Config(**({"styles": styles, "passage_characters": 400} | settings))


@pytest.fixture
def asks(server):
    """A stage that asks the server; retries wait for half a second and more, so there are few."""

    def make(recipe=None, *, ranks=1, needs=None, backend=None, **settings):
        how = {"urls": [server.url], "model": MODEL, "concurrent": 4, "retries": 2, "timeout_s": 20}
        settings = {"sampling": Sampling(max_new_tokens=64)} | settings
        return generate.Config(
            recipe=recipe or lessons(),
            backend=endpoint.Config(**(how | (backend or {}))),
            ranks=ranks,
            needs=needs or {},
            **settings,
        )

    return make
