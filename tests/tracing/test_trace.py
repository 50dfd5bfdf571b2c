"""Both directions of llmhpc.trace on a run with removed pages, copies, a mixture with repeats, and training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from warcio.archiveiterator import ArchiveIterator

from llmhpc import trace
from llmhpc.config import Config
from llmhpc.filters.gopher_quality import Config as Gopher
from llmhpc.filters.lines import Config as Lines
from llmhpc.handoff import artifact, runs
from llmhpc.jobs import collect, dedup, filter, mix, shuffle, tokenize, tokenizer, train
from llmhpc.models.llama import Config as Llama
from llmhpc.planning.plan import plan
from llmhpc.sources import Page
from llmhpc.sources.archive import write
from llmhpc.sources.jsonl import Config as Jsonl
from llmhpc.sources.warc import Config as Warc
from llmhpc.step import gate, run_task
from llmhpc.tokens.reader import TokenFiles
from llmhpc.tokens.shards import REPEAT
from llmhpc.tracing.forward import REMOVED
from llmhpc.train.settings import Parallel, Schedule

VOCABULARY = 400
SITE = "https://www.example.org"
HELDOUT = 0.1
CUT = "To see all that is here you have to let javascript run in your browser."


def page(url, text, date):
    more = CUT if url == f"{SITE}/2" else ""
    body = f"<html><body><article><p>{text}</p><p>{more}</p></article></body></html>".encode()
    return Page(url=url, body=body, date=f"{date}T00:00:00Z")


def dumps(folder, prose):
    """Two dumps of a site: a short page, near copies, and an address that is in both with other words."""
    texts = [d["text"] for d in prose(46, words=150)]
    first = [page(f"{SITE}/{n}", text, "2024-01-01") for n, text in enumerate(texts[:44])]
    first.append(page(f"{SITE}/short", texts[44][:90], "2024-01-01"))
    again = [page(f"{SITE}/again/", text, f"202{n}-02-02") for n, text in enumerate(texts[44:])]
    copy = texts[0].split()
    copy[70] = "otherwise"
    write([*first, again[0]], folder / "a.warc.gz")
    write([page(f"{SITE}/copy", " ".join(copy), "2025-01-01"), again[1]], folder / "b.warc.gz")


def books(folder, prose):
    lines = [d | {"metadata": {"url": f"https://books.org/{d['id']}"}} for d in prose(10, 150, 1)]
    (folder / "books.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def settings(root, folder):
    gopher = Gopher(min_stop_words=0)
    schedule = Schedule(steps=20, global_batch=8, sequence_length=32, warmup_steps=2)
    stages = {
        "collect": collect.Config(ranks=2, source=Warc(paths=[f"{folder}/*.warc.gz"])),
        "books": collect.Config(source=Jsonl(paths=[f"{folder}/books.jsonl"])),
        "filter": filter.Config(
            ranks=2, needs={"pages": "collect"}, rules={"lines": Lines(), "quality": gopher}
        ),
        "dedup": dedup.Config(ranks=2, needs={"documents": "filter"}, method=minhash()),
        "mix": mix.Config(
            needs={"pages": "dedup", "books": "books"},
            weights={"pages": 0.6, "books": 0.4},
            repeats={"books": 3.0},
            mixture_tokens=14000,
        ),
        "shuffle": shuffle.Config(ranks=3, needs={"documents": "mix"}),
        "tokenizer": tokenizer.Config(
            needs={"documents": "shuffle"}, vocab_size=VOCABULARY, heldout_fraction=HELDOUT
        ),
        "tokenize": tokenize.Config(
            ranks=2,
            needs={"documents": "shuffle", "tokenizer": "tokenizer"},
            heldout_fraction=HELDOUT,
            file_gb=10_000 / 1e9,
        ),
        "train": train.Config(
            needs={"tokens": "tokenize", "tokenizer": "tokenizer"},
            model=Llama(vocab_size=VOCABULARY, hidden_size=32, layers=1, intermediate_size=48),
            parallel=Parallel(micro_batch=8),
            schedule=schedule,
        ),
    }
    on_text = {"documents": "shuffle", "tokenizer": "tokenizer"}
    stages["train_text"] = replace(stages["train"], needs=on_text, heldout_fraction=HELDOUT)
    return Config(name="traced", root=str(root), stages=stages)


def minhash():
    from llmhpc.dedup.minhash import Config

    return Config()


def launch(cfg, until=None):
    """Record a launch and make its steps up to, not with, ``until``. Returns their directories by name."""
    steps = plan(cfg)
    runs.write({"": cfg}, steps)
    for step in steps:
        artifact.order(step)
        if step.name == until:
            break
        for phase in step.stage.phases():
            for rank in range(phase.ranks):
                run_task(step.out, phase.name, rank)
            gate(step.out, phase.name)
    return {step.name: step.out for step in steps}


@pytest.fixture(scope="module")
def made(tmp_path_factory, prose):
    """The root of the run, and the directories of its steps by name."""
    folder, root = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("runs")
    dumps(folder, prose)
    books(folder, prose)
    return root, launch(settings(root, folder))


@pytest.fixture
def ask(made, capsys):
    """Calls the command on the run: (exit status, what it found, what it said instead)."""

    def call(*words, root=made[0]):
        status = trace.main([*map(str, words), "--root", str(root), "--json"])
        said = capsys.readouterr()
        return status, json.loads(said.out) if said.out else None, said.err

    return call


def every_document(homes, read_documents):
    """What became of each document, by reading all files: id -> (fate, url)."""
    fates = {}
    for name, folder, fate in [
        ("filter", "removed/quality", "removed"),
        ("dedup", "removed/duplicate", "duplicate"),
        ("tokenize", "heldout", "heldout"),
    ]:
        for document in read_documents(homes[name], folder):
            fates[document["id"]] = fate, document["metadata"]["url"]
    for document in read_documents(homes["shuffle"]):
        fates.setdefault(document["id"], ("train", document["metadata"]["url"]))
    for document in [*read_documents(homes["dedup"]), *read_documents(homes["books"])]:
        fates.setdefault(document["id"], ("left out", document["metadata"]["url"]))
    heldout = {identity for identity, (fate, _) in fates.items() if fate == "heldout"}
    return {
        identity: known
        for identity, known in fates.items()
        if identity in heldout or identity.partition(REPEAT)[0] not in heldout
    }


def test_every_address_is_answered_with_what_became_of_its_documents(made, ask, read_documents):
    expected = every_document(made[1], read_documents)
    kinds = {fate for fate, _ in expected.values()}
    assert kinds == {"removed", "duplicate", "heldout", "train", "left out"}
    for url in sorted({url for _, url in expected.values()}):
        status, found, _ = ask("url", url)
        assert status == 0
        told = {entry["id"]: (entry["fate"], entry["url"]) for entry in found["found"]}
        assert told == {i: known for i, known in expected.items() if known[1] == url}
        assert not found["close"] and not found["not_done"]


def test_a_removed_page_names_rule_reason_and_place(ask):
    _, found, _ = ask("url", f"{SITE}/short")
    (entry,) = found["found"]
    assert (entry["step"], entry["rule"]) == ("filter", "quality")
    assert entry["because"].startswith("words ") and entry["because"].endswith(" < 50")
    assert entry["path"][0]["what"] == "removed/quality/00000.jsonl.zst, line 1"


def test_what_was_cut_out_of_a_document_is_told_with_it(made, ask, read_documents):
    (part,) = read_documents(made[1]["filter"], "removed/lines")
    assert part["text"] == CUT
    _, found, _ = ask("url", f"{SITE}/2")
    entries = [*found["found"], *found["close"]]
    assert entries and REMOVED not in {entry["fate"] for entry in entries}
    size = part["metadata"]["bytes_removed"]
    where = f"lines of filter cut {size} bytes out of it: removed/lines/00000.jsonl.zst, line 1"
    assert {tuple(entry["cut"]) for entry in entries} == {(where,)}


def test_a_duplicate_names_the_page_that_was_kept_and_where_that_one_is(ask):
    _, found, _ = ask("url", f"{SITE}/copy")
    (entry,) = found["found"]
    assert entry["fate"] == "duplicate"
    assert entry["kept"]["url"] == f"{SITE}/0"
    _, first, _ = ask("url", f"{SITE}/0")
    assert entry["kept"]["fate"] == first["found"][0]["fate"]


def test_the_documents_of_one_address_in_two_dumps_are_both_listed(ask):
    _, found, _ = ask("url", f"{SITE}/again/")
    assert {entry["date"][:4] for entry in found["found"]} == {"2020", "2021"}


def test_an_address_written_otherwise_is_close_and_another_is_not_found(ask):
    for url in ("example.org/again", "http://example.org/again#top"):
        status, found, _ = ask("url", url)
        assert status == 1 and not found["found"]
        assert {entry["url"] for entry in found["close"]} == {f"{SITE}/again/"}
    status, found, _ = ask("url", f"{SITE}/4")  # /40 to /43 begin as it does
    assert status == 0 and not found["close"]
    status, found, _ = ask("url", f"{SITE}/nowhere")
    assert status == 1 and not found["found"] and not found["close"]


def test_an_id_finds_every_copy_of_its_document(made, ask, read_documents):
    ids = [document["id"] for document in read_documents(made[1]["shuffle"])]
    repeated = next(i for i in ids if i.endswith(f"{REPEAT}1") and not is_heldout(i))
    first = repeated.partition(REPEAT)[0]
    status, found, _ = ask("id", first)
    assert status == 0
    listed = [entry["id"] for entry in found["found"] + found["close"]]
    assert sorted(listed) == sorted(i for i in ids if i.partition(REPEAT)[0] == first)


def is_heldout(identity):
    from llmhpc.tokens.encode import is_heldout as rule

    return rule(identity, HELDOUT)


def uri_at(path, offset):
    with Path(path).open("rb") as file:
        file.seek(offset)
        return next(iter(ArchiveIterator(file))).rec_headers.get_header("WARC-Target-URI")


def test_every_document_of_training_is_traced_to_the_bytes_it_was_collected_from(made, ask):
    homes = made[1]
    tokens = TokenFiles(homes["tokenize"])
    ends = tokens.ends().tolist()
    seen = set()
    for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        status, found, _ = ask("token", end - 1 if number % 2 else start)
        assert status == 0
        assert (found["start"], found["document"]) == (start, number)
        seen.add(found["id"])
        source, metadata = found["path"][-1]["what"].rsplit(", byte ", 1), found["metadata"]
        if metadata["mix"] == "pages":
            warc = homes["collect"] / "warc" / metadata["warc"]
            assert uri_at(warc, metadata["warc_offset"]) == found["url"]
            assert uri_at(source[0], int(source[1])) == found["url"]
            steps = ["tokenize", "shuffle", "mix", "dedup", "filter", "collect", "source"]
        else:
            line = Path(source[0]).read_bytes()[int(source[1]) :].split(b"\n")[0]
            assert json.loads(line)["id"] == found["id"].partition(REPEAT)[0]
            steps = ["tokenize", "shuffle", "mix", "books", "source"]
        assert [place["step"] for place in found["path"]] == steps
    assert len(seen) == tokens.documents


def test_the_text_around_a_token_is_that_of_its_document(made, ask, read_documents):
    texts = {document["id"]: document["text"] for document in read_documents(made[1]["shuffle"])}
    for position in (0, 777, 5000):
        _, found, _ = ask("token", position)
        around = "".join(found["text"]).replace("<|endoftext|>", "")
        assert around in texts[found["id"]]


def test_a_further_copy_names_the_first(made, ask):
    from llmhpc.tokens.documents import rows_with

    folder = made[1]["tokenize"] / "train"
    for _, row in rows_with(folder, "id", REPEAT):
        _, found, _ = ask("token", row["start"])
        first = row["id"].partition(REPEAT)[0]
        ((_, there),) = [r for r in rows_with(folder, "id", first) if r[1]["id"] == first]
        assert found["first"] == {"id": first, "start": there["start"]}
        assert found["copy"] >= 1


def test_reads_of_training_are_those_of_its_windows(made, ask):
    from llmhpc.train.data import Batches

    home = made[1]["train"]
    schedule = settings("x", "y").stages["train"].schedule
    batches = Batches(TokenFiles(made[1]["tokenize"]), schedule, seed=0)
    times = np.zeros(batches.count + 1, int)
    for step in range(1, schedule.steps + 1):
        np.add.at(times, batches.numbers(step), 1)
    for url in [f"{SITE}/{n}" for n in range(10)]:
        for entry in ask("url", url)[1]["found"]:
            if entry["fate"] == "train":
                first, last = entry["start"] // 32, (entry["end"] - 1) // 32
                read, streamed = entry["read"]
                assert (read["step"], streamed["step"]) == ("train", "train_text")
                assert read["steps"] == schedule.steps
                assert (read["least"], read["most"]) == (
                    times[first : last + 1].min(),
                    times[first : last + 1].max(),
                )
    assert home.name.startswith("train-")


def test_reads_of_training_on_text_are_those_of_a_reading_in_order(made, ask):
    """20 steps of 8 windows of 32: the first 5120 tokens, once."""
    tokens = TokenFiles(made[1]["tokenize"])
    read = 20 * 8 * 32
    assert read < len(tokens)
    for position in (0, read - 1, read + 200):
        _, found, _ = ask("token", position)
        entries = ask("id", found["id"])[1]["found"]
        (streamed,) = [r for entry in entries for r in entry["read"] if r["step"] == "train_text"]
        span = found["start"], found["start"] + found["tokens"]
        assert streamed["least"] == (span[1] <= read)
        assert streamed["most"] == (span[0] < read)


def windows_read(made, steps):
    """By reading all steps: of each window of the tokens at which steps it was read."""
    from llmhpc.train.data import Batches

    schedule = settings("x", "y").stages["train"].schedule
    batches = Batches(TokenFiles(made[1]["tokenize"]), schedule, seed=0)
    read = [[] for _ in range(batches.count + 1)]  # the last one is never whole
    for step in range(1, steps + 1):
        for number in batches.numbers(step):
            read[number].append(step)
    return read


def test_a_checkpoint_says_how_many_documents_it_has_seen(made, ask):
    tokens = TokenFiles(made[1]["tokenize"])
    status, told, _ = ask("--checkpoint", made[1]["train"] / "checkpoints" / "20")
    (source,) = told["sources"]
    assert (status, told["step"], told["steps"], told["tokens"]) == (0, "train", 20, 20 * 8 * 32)
    assert (source["source"], source["step"], source["sequences"]) == ("tokens", "tokenize", 160)
    assert source["epochs"] == pytest.approx(160 / source["of"], abs=1e-4)
    read, counts, start = windows_read(made, 20), {"wholly": 0, "partly": 0, "never": 0}, 0
    for end in tokens.ends().tolist():
        times = [bool(read[n]) for n in range(start // 32, (end - 1) // 32 + 1)]
        counts["wholly" if all(times) else "partly" if any(times) else "never"] += 1
        start = end
    assert source["documents"] == counts
    assert counts["partly"] and counts["never"]


def test_a_checkpoint_says_how_often_and_when_it_had_read_a_document(made, ask):
    export = made[1]["train"] / "exports" / "000020"
    read = windows_read(made, 20)
    for position in (0, 3000, 7000):
        _, found, _ = ask("token", position, "--checkpoint", export)
        windows = range(found["start"] // 32, (found["start"] + found["tokens"] - 1) // 32 + 1)
        (told,) = found["read"]
        assert told["least"] == min(len(read[n]) for n in windows)
        assert told["most"] == max(len(read[n]) for n in windows)
        assert told["first"] == sorted({step for n in windows for step in read[n]})[:8]
        (entry,) = ask("id", found["id"], "--checkpoint", export)[1]["found"]
        assert entry["read"] == [told]


def test_a_checkpoint_of_a_training_on_text_says_how_far_it_had_read(made, ask):
    path = made[1]["train_text"] / "checkpoints" / "20"
    (source,) = ask("--checkpoint", path)[1]["sources"]
    state = json.loads((path / "state.json").read_text())["reading"]
    assert (source["epoch"], source["line"]) == (state["epoch"], state["line"])
    assert (made[1]["shuffle"] / "documents" / source["shard"]).is_file()
    _, found, _ = ask("token", 0)
    (entry,) = ask("id", found["id"], "--checkpoint", path)[1]["found"]
    (told,) = entry["read"]
    assert (told["step"], told["steps"], told["least"]) == ("train_text", 20, 1)


def test_a_run_that_is_not_done_says_how_far_a_page_got(tmp_path, prose, ask):
    folder = tmp_path / "pages"
    folder.mkdir()
    dumps(folder, prose)
    books(folder, prose)
    cfg = settings(tmp_path / "runs", folder)
    for until, fate, following in [("filter", "waits", "filter"), ("mix", "waits", "mix")]:
        launch(replace(cfg), until)
        status, found, _ = ask("url", f"{SITE}/1", root=tmp_path / "runs")
        (entry,) = found["found"]
        assert (status, entry["fate"], entry["next"]) == (0, fate, following)
        assert following in found["not_done"]
        assert uri_at(entry["path"][-1]["what"].rsplit(",")[0], offset_of(entry)) == f"{SITE}/1"
    status, _, error = ask("token", 5, root=tmp_path / "runs")
    assert status == 2 and error.startswith("llmhpc: no step tokenize of this run is done yet")
    assert error.count("\n") == 1


def offset_of(entry):
    return int(entry["path"][-1]["what"].rsplit(" ", 1)[1])


def test_several_processes_find_the_same(made, ask, monkeypatch):
    from llmhpc.tracing import scan

    alone = ask("url", f"{SITE}/copy", "--processes", 1)
    monkeypatch.setattr(scan, "ALONE_BYTES", 0)
    assert ask("url", f"{SITE}/copy", "--processes", 2) == alone


def test_a_wrong_call_is_one_line(made, ask, tmp_path):
    total = TokenFiles(made[1]["tokenize"]).tokens
    for words, expected, reason in [
        (("token", total), 1, f"token {total}: train of "),
        (("token", "many"), 2, "token many: a position, from 0"),
        (("token", 1, "--step", "other"), 2, "--step other: one of tokenize-"),
        (("url", "x", "--processes", 0), 2, "--processes 0: 1 or more"),
        (("url", "x", "--run", "other"), 2, "run other: no launch below it"),
        (("--checkpoint", 7), 2, "--checkpoint 7: one of 20 of train, 20 of train_text"),
        (("--checkpoint", 20), 2, f"--checkpoint 20: one of {made[1]['train']}/checkpoints/20, "),
        ((), 2, "token, url or id with a value, or --checkpoint"),
    ]:
        status, found, error = ask(*words)
        assert (status, found) == (expected, None)
        assert error.startswith(f"llmhpc: {reason}") and error.count("\n") == 1
    assert ask("url", "x", root=tmp_path)[0] == 2


def test_a_person_reads_lines(made, capsys):
    at = ["--checkpoint", str(made[1]["train"] / "checkpoints" / "20")]
    for words in (["token", "99"], ["url", f"{SITE}/copy"], ["url", "https://no.org"], at):
        trace.main([*words, "--root", str(made[0])])
    said = capsys.readouterr().out
    assert "token 99 of train: " in said
    assert f"of {SITE}/0: " in said
    assert "step 20 of train: 5,120 tokens\n  tokens (tokenize): 160 sequences" in said
    assert "https://no.org: in none of the run's steps" in said
