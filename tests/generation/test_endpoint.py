"""A rank asks a real server over HTTP, and what comes back becomes documents or is set aside."""

import json
import re
import time
from collections import Counter

import pytest

from llmhpc.dedup import minhash
from llmhpc.errors import ConfigError, StageError
from llmhpc.generation.backends import endpoint
from llmhpc.jobs import dedup, filter
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import fingerprint, plain

from .conftest import MODEL, lessons, restyle, spoken


def test_documents_hold_the_answers_and_how_they_were_made(
    server, asks, run_stage, read_documents, tmp_path
):
    counts = run_stage(asks(ranks=2), {}, tmp_path)
    documents = read_documents(tmp_path)
    assert len(documents) == counts["documents"] == counts["documents_in"] == 24
    assert server.paths == {"/v1/chat/completions"}
    assert set(server.asked.values()) == {2}  # twice each, with two seeds
    for document in documents:
        told = document["metadata"]
        assert document["text"] == spoken(told["prompt"], told["seed"])[0]
        assert (told["model"], told["temperature"], told["top_p"]) == (MODEL, 0.8, 0.95)
        assert (told["max_new_tokens"], told["finish_reason"]) == (64, "stop")
    assert (
        len({d["id"] for d in documents}) == len({d["metadata"]["seed"] for d in documents}) == 24
    )
    assert counts["completion_tokens"] == sum(len(d["text"].split()) for d in documents)
    assert counts["prompt_tokens"] == sum(len(d["metadata"]["prompt"].split()) for d in documents)
    assert counts["text_bytes"] == sum(len(d["text"]) for d in documents)
    report = json.loads((tmp_path / "diversity.json").read_text())
    assert report["sampled"] == 24
    assert {axis: set(named) for axis, named in report["by"].items()} == {
        "topic": {"soil", "sound", "maps"}, "audience": {"children", "adults"}, "style": {"lesson", "story"},
    }  # fmt: skip


def test_the_documents_do_not_depend_on_ranks(asks, run_stage, read_documents, tmp_path):
    made = []
    for ranks in (1, 3):
        run_stage(asks(ranks=ranks), {}, tmp_path / str(ranks), backwards=ranks > 1)
        made.append(sorted(map(json.dumps, read_documents(tmp_path / str(ranks)))))
    assert made[0] == made[1]


def test_pages_are_said_again_by_a_model_that_does_not_chat(
    server, asks, run_stage, prose, write_documents, read_documents, tmp_path
):
    pages = write_documents(tmp_path / "pages", prose(6, words=100))
    run_stage(asks(restyle(), backend={"chat": False}), {"documents": pages}, tmp_path / "out")
    documents = read_documents(tmp_path / "out")
    assert server.paths == {"/v1/completions"}
    assert {d["metadata"]["seed_id"] for d in documents} == {d["id"] for d in prose(6)}
    assert {d["metadata"]["seed_url"] for d in documents} == {
        d["metadata"]["url"] for d in prose(6)
    }
    assert {d["metadata"]["style"] for d in documents} == {"simple", "concise"}


def test_what_is_no_document_is_set_aside_by_its_reason(
    server, asks, run_stage, read_documents, tmp_path
):
    topics = {
        "good": "it",
        "bad": "DECLINE",
        "none": "NOTHING",
        "long": "LONG",
        "blocked": "BLOCKED",
        "big": "TOO BIG",
    }
    server.fault = lambda number, prompt: 400 if "TOO BIG" in prompt else None
    cfg = asks(lessons(topics=topics, each=1), refusals=["i(')?m sorry"])
    counts = run_stage(cfg, {}, tmp_path)
    assert counts["documents"] == 4
    assert counts["reasons"] == {"empty": 4, "refused": 8, "rejected": 4, "truncated": 4}
    for reason, number in counts["reasons"].items():
        removed = read_documents(tmp_path, f"removed/{reason}")
        assert len(removed) == number
        assert {d["metadata"]["dropped_by"] for d in removed} == {reason}
        assert all(d["metadata"]["prompt"] for d in removed)
    (why,) = {
        d["metadata"]["dropped_because"] for d in read_documents(tmp_path, "removed/rejected")
    }
    assert "fault 400" in why
    kept = run_stage(
        asks(lessons(topics=topics, each=1), keep_truncated=True), {}, tmp_path / "more"
    )
    assert "truncated" not in kept["reasons"]


@pytest.mark.parametrize("option", ["cosmopedia", "rephrase"])
def test_the_refusals_in_conf_are_refusals_and_no_texts(option):
    words = ["pipeline=synthetic", f"stage/generate@stages.generate={option}"]
    patterns = compose([*words, "stages.generate.backend.model=m"]).stages["generate"].refusals
    for text, refused in {
        "I'm sorry, but I can't help with that.": True,
        "I am very sorry, this topic": True,
        "I cannot assist with that request.": True,
        "As an AI language model, I have no": True,
        "Unfortunately, I am not able": True,
        "I cannot see the river from here, said the child.": False,
        "Sorry is a word that costs little.": False,
        "As an aid to memory, draw a map.": False,
    }.items():
        assert any(re.match(p, text, re.IGNORECASE) for p in patterns) is refused, text


@pytest.mark.parametrize("fault", [429, 500, 503, "half", "garbage", "page", "no choices"])
def test_a_fault_that_passes_costs_a_second_try(fault, server, asks, run_stage, tmp_path):
    server.fault = lambda number, prompt: fault if number in (2, 9) else None
    counts = run_stage(asks(), {}, tmp_path)
    assert counts["documents"] == 24
    assert len(server.bodies) == 26


def test_a_server_that_hangs_is_asked_again(server, asks, run_stage, tmp_path):
    server.fault = lambda number, prompt: "hang" if number == 3 else None
    counts = run_stage(asks(lessons(each=1), backend={"timeout_s": 0.5}), {}, tmp_path)
    assert (counts["documents"], len(server.bodies)) == (12, 13)


def test_a_server_that_dies_is_named_and_what_was_answered_stays(server, asks, run_stage, tmp_path):
    server.fault = lambda number, prompt: 500 if number > 10 else None
    with pytest.raises(
        StageError, match=rf"{server.url}/: no answer after 3 tries .*what was answered is kept"
    ):
        run_stage(asks(), {}, tmp_path)
    server.fault = lambda number, prompt: None
    before = len(server.bodies)
    (tmp_path / "scratch").rename(tmp_path / "old")
    assert run_stage(asks(), {}, tmp_path)["documents"] == 24
    assert len(server.bodies) - before == 14


def test_an_address_where_nobody_listens_is_named(asks, run_stage, tmp_path):
    cfg = asks(backend={"urls": ["http://127.0.0.1:9/v1"], "retries": 0})
    with pytest.raises(
        StageError, match=r"http://127.0.0.1:9/v1/: no answer after 1 tries .*refused"
    ):
        run_stage(cfg, {}, tmp_path)


def test_an_answer_that_is_none_ends_the_task_in_one_line(server, asks, run_stage, tmp_path):
    server.fault = lambda number, prompt: "no choices"
    with pytest.raises(StageError, match="no answer after 1 tries .no choices in"):
        run_stage(asks(backend={"retries": 0}), {}, tmp_path)


def test_a_start_without_an_answer_does_not_count_as_saved(server, asks, run_stage, tmp_path):
    server.fault = lambda number, prompt: 500
    with pytest.raises(StageError):
        run_stage(asks(backend={"retries": 0}), {}, tmp_path)
    assert not list(tmp_path.glob("progress/*.saved.json"))
    (tmp_path / "scratch").rename(tmp_path / "old")
    server.fault = lambda number, prompt: 500 if len(server.bodies) > 12 else None
    with pytest.raises(StageError):
        run_stage(asks(backend={"retries": 0}), {}, tmp_path)
    assert list(tmp_path.glob("progress/*.saved.json"))


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_refuses_is_not_asked_again(status, server, asks, run_stage, tmp_path):
    server.fault = lambda number, prompt: status
    with pytest.raises(StageError, match=rf"refuses model={MODEL}: .*fault {status}"):
        run_stage(asks(), {}, tmp_path)
    assert len(server.bodies) <= 8


def test_a_share_of_requests_may_stay_without_answer(
    server, asks, run_stage, read_documents, tmp_path
):
    bad = "Write a story.\n\nSubject: how maps are drawn\nAudience: a child"
    server.fault = lambda number, prompt: 500 if prompt == bad else None
    counts = run_stage(asks(unanswered_share=0.1, backend={"retries": 1}), {}, tmp_path)
    assert (counts["documents"], counts["reasons"]) == (22, {"unanswered": 2})
    assert [d["metadata"]["prompt"] for d in read_documents(tmp_path, "removed/unanswered")] == [
        bad,
        bad,
    ]


def test_requests_are_on_their_way_together(server, asks, run_stage, tmp_path):
    server.delay_s = 0.2
    begun = time.monotonic()
    run_stage(asks(backend={"concurrent": 24}), {}, tmp_path)
    assert time.monotonic() - begun < 24 * 0.2


def test_ranks_take_turns_at_several_servers(server, asks, run_stage, tmp_path):
    other = server.url.replace("127.0.0.1", "localhost")
    run_stage(asks(ranks=2, backend={"urls": [server.url, other]}), {}, tmp_path)
    hosts = Counter(headers["host"].split(":")[0] for headers in server.headers)
    assert hosts == {"127.0.0.1": 12, "localhost": 12}


def test_a_key_comes_from_the_environment_and_is_in_no_file(
    server, asks, run_stage, files_of, monkeypatch, tmp_path
):
    cfg = asks(backend={"key_variable": "TEST_KEY"})
    with pytest.raises(
        ConfigError, match="backend.key_variable=TEST_KEY: this environment variable"
    ):
        cfg.before_launch()
    monkeypatch.setenv("TEST_KEY", "sk-very-secret")
    cfg.before_launch()
    run_stage(cfg, {}, tmp_path)
    assert {headers["authorization"] for headers in server.headers} == {"Bearer sk-very-secret"}
    assert not any(b"very-secret" in body for body in files_of(tmp_path).values())
    assert "very-secret" not in json.dumps(plain(cfg))


def test_where_the_server_is_does_not_change_what_is_made(asks):
    elsewhere = asks(
        backend={"urls": ["https://other:1/v1"], "concurrent": 99, "retries": 0, "timeout_s": 1}
    )
    marks = {fingerprint(plain(cfg, identity_only=True), {}, 0) for cfg in (asks(), elsewhere)}
    assert len(marks) == 1
    assert fingerprint(plain(asks(request_seed=1), identity_only=True), {}, 0) not in marks


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://host/v1", "http:///v1", "https://me:secret@host/v1"]
)
def test_an_address_is_checked_before_the_start(url):
    with pytest.raises(ConfigError, match="urls") as raised:
        endpoint.Config(urls=[url], model="m")
    assert "secret" not in str(raised.value)


def test_filter_and_dedup_take_the_documents_as_they_are(
    asks, run_stage, prose, write_documents, read_documents, tmp_path
):
    pages = write_documents(tmp_path / "pages", prose(8, words=100))
    run_stage(asks(restyle(), ranks=2), {"documents": pages}, tmp_path / "generate")
    run_stage(filter.Config(), {"pages": tmp_path / "generate"}, tmp_path / "filter")
    method = minhash.Config()
    run_stage(dedup.Config(method=method), {"documents": tmp_path / "filter"}, tmp_path / "dedup")
    kept = {d["id"]: d for d in read_documents(tmp_path / "dedup")}
    made = {d["id"]: d for d in read_documents(tmp_path / "generate")}
    assert len(kept) == len(made) > 0
    for identity, document in made.items():
        assert kept[identity]["text"] == document["text"]
        assert document["metadata"].items() <= kept[identity]["metadata"].items()
