"""Which processes and links are called slow, and that all of them are measured."""

import json

import pytest

from llmhpc.train.health import SLOWER, slow


def readings(*tflops, hosts="abcd", links=None):
    links = links or [10.0] * len(tflops)
    return [
        {"host": host, "tflops": t, "link_gb_s": link, "all_reduce_gb_s": 5.0}
        for host, t, link in zip(hosts, tflops, links, strict=False)
    ]


def test_equal_processes_are_healthy():
    assert slow(readings(100, 90, 100, 95)) == []
    assert slow(readings(100)) == []


def test_a_slow_process_is_named_with_its_node():
    (warning,) = slow(readings(100, 100 / SLOWER - 1, 98, 99))
    assert warning == "process 1 on b multiplies at 65.7 TFLOP/s, others at 99"
    (warning,) = slow(readings(100, 50))
    assert warning.startswith("process 1 on b")


def test_a_slow_link_is_named_with_both_ends_among_its_like():
    hosts = ["a", "a", "b", "b", "c", "c"]  # links: inside a, a-b, inside b, b-c, inside c, c-a
    links = [300.0, 40, 300, 12, 290, 45]
    (warning,) = slow(readings(*[100] * 6, hosts=hosts, links=links))
    assert warning == "processes 3 on b and 4 on c exchange at 12 GB/s, others like them at 42.5"


@pytest.mark.slow
def test_every_process_is_measured_before_the_first_step(runs, single, tmp_path):
    records = runs.spread(tmp_path, parallel={"dp": 2}, schedule={"steps": 2})
    assert len(records) == 2
    found = json.loads((tmp_path / "health.json").read_text())
    assert len(found["processes"]) == 2
    for one in found["processes"]:
        assert one["host"] and one["tflops"] > 0 and one["all_reduce_gb_s"] > 0
    assert found["processes"][0]["link_gb_s"] > 0
    assert found["processes"][1]["link_gb_s"] is None, "two processes have one link"
    assert not (single / "health.json").exists(), "one process has none to be compared with"
