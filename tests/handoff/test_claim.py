"""A claim is exclusive while its holder lives, and free once it is gone."""

import subprocess
import sys

from llmhpc.handoff import claim

HOLD = (
    "import sys, time; from pathlib import Path; from llmhpc.handoff import claim;"
    "print(claim.take(Path(sys.argv[1])), flush=True); time.sleep(60)"
)


def holder(home):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    return process


def test_a_second_launcher_waits_for_the_first(tmp_path):
    process = holder(tmp_path)
    try:
        assert not claim.take(tmp_path)
        assert claim.alive(tmp_path)
    finally:
        process.kill()
        process.wait()


def test_the_claim_of_a_killed_launcher_is_free(tmp_path):
    process = holder(tmp_path)
    process.kill()
    process.wait()
    assert not claim.alive(tmp_path)
    assert claim.take(tmp_path)


def test_of_many_launchers_at_once_one_gets_the_claim(tmp_path):
    code = HOLD.replace("time.sleep(60)", "time.sleep(2)")
    many = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    answers = [process.communicate()[0] for process in many]
    assert answers.count("True\n") == 1


def test_a_released_claim_can_be_taken_again(tmp_path):
    assert claim.take(tmp_path)
    claim.release(tmp_path)
    assert not claim.alive(tmp_path)
    assert claim.take(tmp_path)
