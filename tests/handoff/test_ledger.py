"""What a run has cost, told from the records of its attempts alone."""

import pytest

from llmhpc.config import Budget
from llmhpc.files import write_json
from llmhpc.handoff import ledger

HOUR = 3600.0


def record(begin: float, end: float, cause: str, **more) -> dict:
    return {"begin": begin, "end": end, "cause": cause, "cpus": 2, "gpus": 4} | more


def test_the_ledger_tells_what_was_lost_from_what_was_saved():
    cost = ledger.of_records([
        record(0, HOUR, "killed", saved=0.75 * HOUR),
        record(HOUR, 2 * HOUR, "node_fail"),
        record(2 * HOUR, 4 * HOUR, "done"),
    ])  # fmt: skip
    assert cost == ledger.Cost(8.0, 16.0, 2.5, 5.0, 3, 2)
    assert cost.goodput == pytest.approx(1 - 5 / 16)


def test_time_in_the_queue_counts_once_and_only_while_nothing_of_the_step_is_at_work():
    cost = ledger.of_records([
        record(2 * HOUR, 3 * HOUR, "done", ready=HOUR),
        record(2.5 * HOUR, 4 * HOUR, "done", ready=HOUR),  # waits for an hour more, beside one at work
        record(9 * HOUR, 10 * HOUR, "done", ready=6 * HOUR),
        record(9 * HOUR, 10 * HOUR, "done", ready=7 * HOUR),
        record(12 * HOUR, 13 * HOUR, "done"),  # was not submitted
    ])  # fmt: skip
    assert cost.waiting_hours == pytest.approx(1 + 3)


def test_a_billion_tokens_cost_what_the_tokens_so_far_did_times_as_much():
    cost = ledger.of_records([record(0, HOUR, "done")])
    assert ledger.per_billion(cost, 250_000_000) == {"cpu_hours": 8.0, "gpu_hours": 16.0}
    assert ledger.per_billion(cost, 0) is None


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(), ""),
        (Budget(cpu_hours=2.1, gpu_hours=4.1), ""),
        (Budget(cpu_hours=2), "cluster.budget.cpu_hours=2: 2.00 are used; a larger budget, or 0 for none"),
        (Budget(gpu_hours=1), "cluster.budget.gpu_hours=1: 4.00 are used; a larger budget, or 0 for none"),
    ],
)  # fmt: skip
def test_a_budget_that_is_spent_says_so(tmp_path, budget, said):
    write_json(tmp_path / "attempts" / "main-00000-000.json", record(0, HOUR, "done"))
    assert ledger.overdrawn(budget, [tmp_path, tmp_path.parent]) == said
