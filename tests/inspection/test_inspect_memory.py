"""Memory does not grow with the documents: sums go to files, and the ledger is added up on disk."""

import json
import tracemalloc

import pytest

from llmhpc.errors import StageError
from llmhpc.inspection import ledger
from llmhpc.inspection.ledger import Ledger, Sums
from llmhpc.inspection.piles import Piece
from llmhpc.jobs import inspect
from llmhpc.task import Task

DOMAINS = 150_000


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A step with a rule, and the sums of its documents, each of a domain of its own."""
    home = tmp_path_factory.mktemp("many")
    (home / "manifest.json").write_text(json.dumps({"counts": {"rules": {"a": {}}}}))
    sums = Sums(home / "sums", 0)
    for n in range(DOMAINS):
        where = {"url": f"https://host-{n * 7919 % DOMAINS}.org/"}
        sums.add(Piece(step="filter", fate="a" if n % 3 else "kept", size=n, text="", metadata=where), n)  # fmt: skip
    sums.close()
    return home


def made(many, out, memory_gb):
    out.mkdir()
    steps = {"filter": many}
    book = Ledger(many / "sums", out, steps, exact=True, memory_gb=memory_gb, scratch=out / "tmp")
    return book.path.read_bytes(), book.totals(), book.of_domains(book.top(9)), book.most_removed()


@pytest.mark.slow
def test_the_ledger_is_the_same_in_little_memory(many, tmp_path):
    much, little = made(many, tmp_path / "much", 1.0), made(many, tmp_path / "little", 0.05)
    assert much == little
    assert much[1][0]["documents_in"] == DOMAINS == much[1][0]["domains"]
    assert [row["tokens_kept"] for row in much[2]] == [DOMAINS - 3 * (n + 1) for n in range(9)]


@pytest.mark.slow
def test_too_little_memory_is_said_in_one_line(many, tmp_path):
    with pytest.raises(StageError, match=r"^resources.mem_gb: 0.002 GB of it are left[^\n]*$"):
        made(many, tmp_path / "out", 0.002)


def peak(step, phase, home):
    """Bytes that Python holds at most while a rank looks at all shards."""
    out = home / phase
    task = Task(phase=phase, rank=0, ranks=1, seed=0, home=home)
    tracemalloc.start()
    try:
        inspect.run(inspect.Config(samples=5), {"in": step}, out, task)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_ten_times_the_documents_take_no_more_memory(write_documents, prose, tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "HELD", 200)
    documents, peaks = prose(600), {}
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "top.json").write_text('{"in": ["a.org"]}')
    inspect.run(inspect.Config(), {"in": write_documents(tmp_path / "warm", documents)}, tmp_path / "out",
                Task(phase="measure", rank=0, ranks=1, seed=0, home=tmp_path / "out"))  # fmt: skip
    for times in (1, 10):
        more = [d | {"id": f"{d['id']}-{k}", "metadata": {"url": f"https://{d['id']}-{k}.org"}}
                for k in range(times) for d in documents]  # fmt: skip
        step = write_documents(tmp_path / str(times), more, shards=2 * times)
        for phase in ("measure", "pick"):
            peaks[phase, times] = peak(step, phase, tmp_path)
    for phase in ("measure", "pick"):
        assert peaks[phase, 10] < 1.2 * peaks[phase, 1], peaks
