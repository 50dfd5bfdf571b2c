"""What to do about tasks that have not ended well: start them again, how, or stop and say why."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from llmhpc.config import Phase, Recovery
from llmhpc.handoff import attempts

SHOWN_RANKS = 5


class Decision(NamedTuple):
    """How the missing ranks of a phase go on: all of them, or none and ``stop`` says why."""

    stop: str = ""
    memory: float = 1.0  # times what the step asks for
    excluded: tuple[str, ...] = ()  # nodes, the worst first


def decide(
    home: Path, phase: Phase, ranks: Iterable[int], policy: Recovery, since: float
) -> Decision:
    """Judge the attempts that began after ``since`` at the given ranks of a phase."""
    histories = attempts.by_rank(home, phase.name)
    stops: list[str] = []
    memory = 0
    for rank in ranks:
        bad = [r for r in histories.get(rank, []) if r["begin"] >= since and _failed(r)]
        if not bad:
            continue
        counts = Counter(record["cause"] for record in bad)
        memory = max(memory, counts["out_of_memory"])
        cause, last = bad[-1]["cause"], bad[-1]
        cap = getattr(policy, cause)
        if counts[cause] > cap:
            often = f", {counts[cause]} times" if counts[cause] > 1 else ""
            said = last.get("error") or f"{cause}{often}"
            where = f"; log: {last['log']}" if last["log"] else ""
            stops.append(f"rank {rank}: {said} (cluster.recovery.{cause}={cap}){where}")
    return Decision(
        stop="; ".join(stops[:SHOWN_RANKS]) + (_more(len(stops) - SHOWN_RANKS)),
        memory=policy.memory_factor**memory,
        excluded=_bad_nodes(histories.values(), policy, since),
    )


def _failed(record: attempts.Record) -> bool:
    """An ended attempt that did neither its work nor save a part of it; or that somebody cancelled."""
    cause = record.get("cause", attempts.DONE)
    return cause != attempts.DONE and ("saved" not in record or cause == "cancelled")


def _bad_nodes(
    histories: Iterable[list[attempts.Record]], policy: Recovery, since: float
) -> tuple[str, ...]:
    if not policy.exclude_node_after:
        return ()
    failures = Counter(
        record["node"]
        for history in histories
        for record in history
        if record["begin"] >= since and record.get("cause") == "node_fail" and record["node"]
    )
    bad = (n for n, times in failures.items() if times >= policy.exclude_node_after)
    return tuple(sorted(bad, key=lambda n: (-failures[n], n)))


def left_out(bad: Iterable[str], partitions: Iterable[set[str]], wanted: int) -> tuple[str, ...]:
    """Those of the ``bad`` nodes, the worst first, without which a partition still has as many as are wanted."""
    there, out = list(partitions), list[str]()
    for name in bad:
        if any(len(nodes - {*out, name}) >= wanted for nodes in there):
            out.append(name)
    return tuple(out)


def _more(count: int) -> str:
    return f"; and {count} more ranks" if count > 0 else ""
