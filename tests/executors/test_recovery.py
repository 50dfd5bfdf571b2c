"""What is done about tasks that ended badly, told from the records alone."""

import pytest

from llmhpc.config import Phase, Recovery
from llmhpc.executors import recovery
from llmhpc.handoff import attempts

MAIN = Phase("main", 4)


def ended(home, rank: int, cause: str, **more) -> None:
    attempts.note(home, "main", rank, cause, **more)


def decide(home, *ranks: int, since: float = 0.0, **policy) -> recovery.Decision:
    return recovery.decide(home, MAIN, ranks, Recovery(**policy), since)


def test_a_task_that_never_began_just_starts(tmp_path):
    assert decide(tmp_path, 0, 1) == recovery.Decision()


def test_an_error_stops_at_once_and_says_what_it_was_and_where(tmp_path):
    ended(tmp_path, 1, "error", error="page 7 is no page", log="/logs/7")
    said = decide(tmp_path, 0, 1).stop
    assert said == "rank 1: page 7 is no page (cluster.recovery.error=0); log: /logs/7"


@pytest.mark.parametrize(
    "cause", ["preempted", "node_fail", "killed", "cancelled", "disk_full", "requeued"]
)
def test_what_comes_from_outside_starts_again_until_it_comes_too_often(tmp_path, cause):
    for _ in range(2):
        ended(tmp_path, 2, cause)
    assert decide(tmp_path, 2, **{cause: 2}).stop == ""
    ended(tmp_path, 2, cause)
    said = decide(tmp_path, 2, **{cause: 2}).stop
    assert said == f"rank 2: {cause}, 3 times (cluster.recovery.{cause}=2)"


def test_what_saved_its_work_is_not_counted(tmp_path):
    for _ in range(9):
        ended(tmp_path, 0, "timeout", saved=1.0)
    assert decide(tmp_path, 0, timeout=1).stop == ""


def test_what_was_before_a_person_launched_again_is_not_counted(tmp_path):
    ended(tmp_path, 0, "error")
    (record,) = attempts.every(tmp_path)
    assert decide(tmp_path, 0, since=record["begin"] + 1).stop == ""


def test_out_of_memory_asks_for_more_each_time(tmp_path):
    ended(tmp_path, 0, "out_of_memory")
    ended(tmp_path, 3, "out_of_memory")
    ended(tmp_path, 3, "out_of_memory")
    assert decide(tmp_path, 0, 3, memory_factor=1.5).memory == 1.5**2
    assert decide(tmp_path, 0, memory_factor=1.5).memory == 1.5


def test_a_node_that_failed_twice_is_left_out(tmp_path):
    ended(tmp_path, 0, "node_fail", node="n1")
    ended(tmp_path, 1, "node_fail", node="n2")
    assert decide(tmp_path, 0, 1).excluded == ()
    ended(tmp_path, 2, "node_fail", node="n1")
    assert decide(tmp_path, 0, 1, 2).excluded == ("n1",)
    assert decide(tmp_path, 0, 1, 2, exclude_node_after=0).excluded == ()


def test_many_ranks_that_stop_are_not_all_listed(tmp_path):
    for rank in range(7):
        ended(tmp_path, rank, "error", error="no")
    assert decide(tmp_path, *range(7)).stop.endswith("; and 2 more ranks")


def test_bad_nodes_are_left_out_as_long_as_enough_remain_the_worst_first(tmp_path):
    for rank, node in enumerate(["n3", "n1", "n3", "n2", "n3", "n1"]):
        ended(tmp_path, rank, "node_fail", node=node)
    bad = decide(tmp_path, 0, exclude_node_after=1).excluded
    assert bad == ("n3", "n1", "n2")
    four, two = {"n1", "n2", "n3", "n4"}, {"n1", "n4"}
    assert recovery.left_out(bad, [four], 1) == bad
    assert recovery.left_out(bad, [four], 2) == ("n3", "n1")
    assert recovery.left_out(bad, [four], 4) == ()
    assert recovery.left_out(bad, [two], 2) == ("n3", "n2")  # those are not of it
    assert recovery.left_out(bad, [two, four], 3) == ("n3",)  # one partition is enough
    assert recovery.left_out(bad, [], 1) == ()
