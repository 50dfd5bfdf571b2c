"""Killed, started twice, damaged: what was answered is asked for no second time, and every byte is as it was answered."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from llmhpc import step
from llmhpc.generation import Answer
from llmhpc.generation.journal import Journal
from llmhpc.handoff import artifact
from llmhpc.planning.plan import Step, fingerprint, plain

from .conftest import lessons, restyle


def ordered(config, root, inputs=None):
    """The directory of a step that is to be made."""
    inputs = inputs or {}
    mark = fingerprint(plain(config, identity_only=True), dict.fromkeys(inputs, "00000000"), 0)
    home = root / f"generate-{mark}"
    artifact.order(
        Step(name="generate", stage=config, seed=0, fingerprint=mark, out=home, inputs=inputs)
    )
    return home


def started(home, *words):
    command = [sys.executable, "-m", "llmhpc.step", str(home), *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def journaled(home):
    return sum(path.read_bytes().count(b"\n") for path in home.glob("work/answers/*/*.jsonl"))


@pytest.mark.slow
def test_a_killed_task_asks_only_for_what_was_not_answered(
    server, asks, files_of, read_documents, tmp_path
):
    server.delay_s = 0.1
    home = ordered(asks(backend={"concurrent": 2}), tmp_path)
    for answered in (5, 14):
        process = started(home, "answers", "0")
        wait_for(lambda least=answered: journaled(home) >= least, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert artifact.missing_ranks(home, "answers", 1) == [0]
    server.delay_s, kept = 0.0, journaled(home)
    before = len(server.bodies)
    assert step.main([str(home)]) == 0
    assert len(server.bodies) - before == 24 - kept
    assert len(server.bodies) <= 24 + 2 * 2  # at most those on their way at each kill
    assert len(read_documents(home)) == 24
    assert not (home / "work").exists()

    whole = ordered(asks(backend={"concurrent": 2}), tmp_path / "whole")
    assert step.main([str(whole)]) == 0
    assert files_of(whole / "documents") == files_of(home / "documents")
    assert files_of(whole)["diversity.json"] == files_of(home)["diversity.json"]


@pytest.mark.slow
def test_a_second_start_takes_over_and_the_first_one_ends(server, asks, read_documents, tmp_path):
    server.delay_s = 0.5
    home = ordered(asks(lessons(each=5), backend={"concurrent": 2}), tmp_path)
    first = started(home, "answers", "0")
    wait_for(lambda: journaled(home) >= 2, first)
    second = started(home, "answers", "0")
    wait_for(lambda: len(list(home.glob("work/answers/*/*.jsonl"))) == 2, second)
    _, why = first.communicate(timeout=30)
    assert first.returncode == 1
    assert "started again" in why
    server.delay_s = 0.0
    assert second.wait(timeout=60) == 0
    assert step.main([str(home)]) == 0
    documents = read_documents(home)
    assert len({d["id"] for d in documents}) == 60
    (mark,) = home.glob("ranks/answers-*.json")
    assert artifact.sealed(home) and mark.exists()


def entry(number):
    return number, Answer(f"text {number}", "stop", 1, 2, "m")


def test_half_a_line_is_no_answer_and_spoils_no_other(tmp_path):
    keys = np.arange(10, 20, dtype=np.uint64)
    with Journal(tmp_path, keys) as journal:
        journal.add([entry(3), entry(1)])
    (file,) = tmp_path.glob("*.jsonl")
    whole = file.read_bytes()
    for cut in range(len(whole) + 1):
        file.write_bytes(whole[:cut])
        with Journal(tmp_path, keys) as journal:
            there = {number for number in range(10) if number in journal}
            assert there == {3, 1} if cut == len(whole) else there in (set(), {3})
            assert all(journal[n] == entry(n)[1] for n in there)
            assert journal.answered == len(there)
            journal.add([entry(1), entry(7)])
            assert (journal[1], journal[7]) == (entry(1)[1], entry(7)[1])
        for later in set(tmp_path.glob("*.jsonl")) - {file}:
            later.unlink()


def test_the_first_answer_counts_and_one_to_another_request_does_not(tmp_path):
    keys = np.arange(4, dtype=np.uint64)
    with Journal(tmp_path, keys) as first, Journal(tmp_path, keys) as second:
        first.add([(0, Answer("first", "stop", 1, 1, "m"))])
        second.add([(0, Answer("second", "stop", 1, 1, "m")), (2, Answer("x", "stop", 1, 1, "m"))])
    with Journal(tmp_path, keys) as journal:
        assert journal[0].text == "first"
        assert journal[2].text == "x"
    with Journal(tmp_path, keys + np.uint64(1)) as journal:
        assert journal.answered == 0


def test_answers_to_pages_that_were_made_again_are_not_mixed_up(
    server, asks, run_stage, prose, write_documents, read_documents, tmp_path
):
    def made_of(name, seed):
        pages = write_documents(tmp_path / name, prose(4, words=80, seed=seed))
        home.mkdir(exist_ok=True)
        counts = run_stage(asks(restyle()), {"documents": pages}, home)
        return counts["documents"]

    home = tmp_path / "out"
    server.fault = lambda number, prompt: 500 if number > 6 else None
    with pytest.raises(Exception, match="no answer"):
        made_of("one", 1)
    (home / "scratch").rename(tmp_path / "old")
    server.fault = lambda number, prompt: None
    assert made_of("two", 2) == len(read_documents(home))
    texts = {d["id"]: d["text"] for d in prose(4, words=80, seed=2)}
    for document in read_documents(home):
        told = document["metadata"]
        assert told["prompt"].split(": ")[1] in texts[told["seed_id"]]
        assert server.asked[told["prompt"]] == 1
