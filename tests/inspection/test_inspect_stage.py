"""The ledger adds up to what the steps counted and to what lies on disk; samples are those of the least hashes."""

import json
import subprocess
import sys
import time
from collections import Counter, defaultdict

import pyarrow.parquet as pq
import pytest

from llmhpc import step
from llmhpc.config import Resources, Stage
from llmhpc.dedup import sentence
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.filters import lines, pii, url
from llmhpc.handoff import artifact
from llmhpc.inspection import ledger
from llmhpc.jobs import dedup, filter, inspect, tokenizer
from llmhpc.planning.plan import Step, fingerprint, plain
from llmhpc.sources import Page, archive
from llmhpc.tokens.domains import domain_of
from llmhpc.tokens.encode import open_encoder
from llmhpc.tokens.shards import hash64

FILES = {"ledger.parquet", "ledger.json", "histograms.json", "samples.parquet", "domains.parquet"}
COUNTED = ("documents", "bytes", "tokens")
SHARED = "The boat left at night. Nobody saw the crew again. The harbour was quiet once more."
SECRET = "ann.b@mail.uni-x.de"


@pytest.fixture(scope="module")
def steps(prose, tmp_path_factory, write_documents, run_stage):
    """Documents of 9 domains; a filter that edits and drops, then a deduplication that cuts and drops; a tokenizer."""
    base, documents = tmp_path_factory.mktemp("inspected"), prose(240, words=60)
    for n, document in enumerate(documents):
        extra = [f"{n} likes"] * (n % 4 == 0) + [f"Write to {SECRET} now."] * (n % 5 == 0)
        extra += [f"Write to {n}.{SECRET} and to b.{SECRET}."] * (n % 20 == 0)
        extra += [SHARED] * (n % 6 == 0) + ["Grüße aus Köln."]
        document["text"] = "\n".join([document["text"], *extra]) if n % 11 else SHARED
        document["text"] += "\n3 likes" * 40 * (n % 13 == 0)
        document["metadata"] = {"url": f"https://www.{'abc'[n % 3]}{n % 7 % 3}.org/{n}", "score": n}
    rules = {"lines": lines.Config(max_removed_words=0.5), "pii": pii.Config(max_found=2)}
    source = write_documents(base / "in", documents, shards=5)
    settings = {
        "filter": (filter.Config(rules=rules, ranks=2), {"pages": source}),
        "dedup": (dedup.Config(method=sentence.Config(), ranks=3), {"documents": base / "filter"}),
        "tokenizer": (tokenizer.Config(vocab_size=400), {"documents": base / "dedup"}),
    }
    for name, (config, inputs) in settings.items():
        counts = run_stage(config, inputs, base / name)
        (base / name / "manifest.json").write_text(json.dumps({"counts": counts}))
    return {"in": source} | {name: base / name for name in settings}


@pytest.fixture(scope="module")
def inspected(steps, run_stage, tmp_path_factory):
    """What the stage makes of the two steps, with exact tokens."""
    home = tmp_path_factory.mktemp("inspect") / "out"
    run_stage(inspect.Config(ranks=2, samples=20, top_domains=4), looked_at(steps), home)
    return home


def looked_at(steps):
    return {name: steps[name] for name in ("filter", "dedup", "tokenizer")}


def ledger_of(home):
    return pq.read_table(home / "ledger.parquet").to_pylist()


def by_domain(documents):
    sizes = defaultdict(Counter)
    for document in documents:
        sizes[domain_of(document["metadata"])] += Counter(
            documents=1, bytes=len(document["text"].encode())
        )
    return sizes


def test_what_came_is_what_stayed_and_what_went_for_every_rule_and_domain(inspected):
    rows = ledger_of(inspected)
    places = {(row["step"], row["place"]): row["rule"] for row in rows}
    assert places == {("dedup", 0): "duplicate", ("filter", 0): "lines", ("filter", 1): "pii"}
    for row in rows:
        for what in COUNTED:
            assert row[f"{what}_in"] == row[f"{what}_kept"] + row[f"{what}_removed"]
    behind = {(row["step"], row["place"], row["domain"]): row for row in rows}
    for (name, place, domain), row in behind.items():
        if (name, place + 1) in places and row["documents_kept"]:
            for what in COUNTED:
                assert row[f"{what}_kept"] == behind[name, place + 1, domain][f"{what}_in"]


def test_the_ledger_says_what_lies_on_disk_before_and_behind_each_step(inspected, steps, read_documents):  # fmt: skip
    rows = ledger_of(inspected)
    for name, place, side, where in (
        ("filter", 0, "in", "in"), ("filter", 1, "kept", "filter"),
        ("dedup", 0, "in", "filter"), ("dedup", 0, "kept", "dedup"),
    ):  # fmt: skip
        there = by_domain(read_documents(steps[where]))
        told = {row["domain"]: row for row in rows if (row["step"], row["place"]) == (name, place)}
        assert len(there) == 9
        for domain, sizes in there.items():
            for what, value in sizes.items():
                assert told[domain][f"{what}_{side}"] == value, (name, side, domain)


def test_the_ledger_agrees_with_the_counts_of_the_manifests(inspected, steps):
    totals = json.loads((inspected / "ledger.json").read_text())["totals"]
    told = {(row["step"], row["rule"]): row for row in totals}
    manifest = {n: json.loads((steps[n] / "manifest.json").read_text())["counts"] for n in steps if n != "in"}  # fmt: skip
    for rule, counts in manifest["filter"]["rules"].items():
        row = told["filter", rule]
        found = (row["documents_in"], row["documents_kept"], row["documents_removed"])
        assert found == (counts["in"], counts["kept"], counts["dropped"])
        assert 0 < counts["dropped"] < counts["in"] and counts["edits"]["documents"]
    row, counts = told["dedup", "duplicate"], manifest["dedup"]
    assert row["documents_removed"] == counts["duplicates"] > 0 < counts["shortened"]
    assert manifest["filter"]["bytes_in"] == told["filter", "lines"]["bytes_in"]


def test_tokens_are_counted_and_where_parts_were_cut_out_estimated(inspected, steps, read_documents):  # fmt: skip
    encoder = open_encoder(steps["tokenizer"], "auto")
    counted = sum(len(t) for d in read_documents(steps["dedup"]) for t in encoder.encode([d["text"]]))  # fmt: skip
    totals = json.loads((inspected / "ledger.json").read_text())["totals"]
    row = next(row for row in totals if row["step"] == "dedup")
    assert row["tokens_kept"] == counted and row["tokens_are"] == "estimated"
    assert {r["tokens_are"] for r in ledger_of(inspected)} == {"estimated", "exact"}
    came = sum(len(t) for d in read_documents(steps["filter"]) for t in encoder.encode([d["text"]]))
    assert row["tokens_in"] == pytest.approx(came, rel=0.01)


def test_without_a_tokenizer_tokens_are_bytes_by_the_setting(steps, run_stage, tmp_path):
    run_stage(inspect.Config(bytes_per_token=2), {"in": steps["in"]}, tmp_path / "out")
    for row in ledger_of(tmp_path / "out"):
        assert row["tokens_are"] == "estimated" and row["rule"] == ""
        assert abs(row["tokens_kept"] - row["bytes_kept"] / 2) <= row["documents_kept"] / 2


def test_samples_are_the_documents_of_the_least_hashes(inspected, steps, read_documents):
    rows = pq.read_table(inspected / "samples.parquet").to_pylist()
    for name, fate, folder, limit in (
        ("filter", "kept", "documents", 20), ("filter", "lines", "removed/lines", 20),
        ("dedup", "kept", "documents", 20), ("dedup", "duplicate", "removed/duplicate", 20),
    ):  # fmt: skip
        documents = read_documents(steps[name], folder)
        for whole in (True, False):
            there = [d for d in documents if d["metadata"].get("whole", True) is whole]
            least = sorted(there, key=lambda d: hash64(d["id"], b"inspect"))[:limit]
            shown = [r for r in rows if (r["step"], r["fate"], r["whole"]) == (name, fate, whole)]
            assert [r["id"] for r in shown] == [d["id"] for d in least]
            assert [r["text"] for r in shown] == [d["text"][:2000] for d in least]
            assert bool(shown) == (whole or fate != "kept")


def test_the_top_domains_are_those_with_most_tokens_each_with_documents(inspected):
    kept = Counter({r["domain"]: r["tokens_kept"] for r in ledger_of(inspected) if r["step"] == "dedup"})  # fmt: skip
    rows = pq.read_table(inspected / "domains.parquet").to_pylist()
    shown = [r["domain"] for r in rows if r["step"] == "dedup"]
    assert list(dict.fromkeys(shown)) == [name for name, _ in kept.most_common(4)]
    assert set(Counter(shown).values()) == {10}
    assert all(r["fate"] == "kept" and r["domain"] == domain_of({"url": r["url"]}) for r in rows)


def test_histograms_count_every_document(inspected):
    totals = json.loads((inspected / "ledger.json").read_text())["totals"]
    histograms = json.loads((inspected / "histograms.json").read_text())
    sizes = {(h["step"], h["fate"], h["of"]): sum(n for *_, n in h["bins"]) for h in histograms}
    for row in totals:
        for of in ("characters", "tokens", "score"):
            assert sizes[row["step"], row["rule"], of] == row["documents_removed"]
    assert sizes["dedup", "kept", "score"] == totals[0]["documents_kept"]


def test_nothing_shows_what_was_masked(steps, inspected):
    text = "".join(str(row) for row in pq.read_table(inspected / "samples.parquet").to_pylist()
                   if row["fate"] == "kept" or not row["whole"])  # fmt: skip
    assert SECRET not in text and "email@example.com" in text


@pytest.mark.parametrize("ranks", [1, 5])
def test_the_bytes_do_not_depend_on_ranks_and_their_order(
    ranks, steps, inspected, run_stage, files_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(ledger, "HELD", 3)  # sums go to many files
    config = inspect.Config(ranks=ranks, samples=20, top_domains=4)
    run_stage(config, looked_at(steps), tmp_path / "out", backwards=True)
    assert files_of(tmp_path / "out") == files_of(inspected)
    assert set(files_of(inspected)) == FILES


def test_pages_are_counted_by_domain(run_stage, tmp_path):
    pages = [Page(url=f"https://{d}.org/{n}", body=b"<p>%d</p>" % n) for d in "ab" for n in range(3)]  # fmt: skip
    archive.write(pages, tmp_path / "in" / "warc" / "00000.warc.gz")
    run_stage(inspect.Config(), {"collect": tmp_path / "in"}, tmp_path / "out")
    assert [(r["domain"], r["documents_kept"], r["bytes_in"], r["tokens_are"]) for r in ledger_of(tmp_path / "out")] == [
        ("a.org", 3, 24, "none"), ("b.org", 3, 24, "none"),
    ]  # fmt: skip


def test_what_cannot_be_looked_at_is_refused(run_stage, tmp_path):
    with pytest.raises(ConfigError, match=r"^needs: a name and a stage for each step"):
        inspect.Config().check_with({"tokenizer": Stage(kind="tokenizer")})
    with pytest.raises(ConfigError, match=r"^bytes_per_token=0: above 0"):
        inspect.Config(bytes_per_token=0)
    with pytest.raises(ConfigError, match=r"^resources.mem_gb=0.9: 1 or more"):
        inspect.Config(resources=Resources(mem_gb=0.9))
    with pytest.raises(ArtifactError, match=r"^needs.train: .* has no documents/ and no warc/"):
        run_stage(inspect.Config(), {"train": tmp_path}, tmp_path / "out")


@pytest.mark.slow
def test_a_killed_rank_changes_no_byte(steps, inspected, files_of, tmp_path):
    inputs = {name: path for name, path in looked_at(steps).items()}
    config = inspect.Config(ranks=2, samples=20, top_domains=4, needs={n: n for n in inputs})
    marks = {name: "00000000" for name in inputs}
    for name, path in inputs.items():
        (tmp_path / f"{name}-00000000").symlink_to(path)
    inputs = {name: tmp_path / f"{name}-00000000" for name in inputs}
    mark = fingerprint(plain(config, identity_only=True), marks, 0)
    home = tmp_path / f"inspect-{mark}"
    artifact.order(
        Step(name="inspect", stage=config, seed=0, fingerprint=mark, out=home, inputs=inputs)
    )
    command = [sys.executable, "-m", "llmhpc.step", str(home), "measure", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not list((home / artifact.SCRATCH).glob("measure-*/work/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert artifact.missing_ranks(home, "measure", 2) == [0, 1]
    assert step.main([str(home)]) == 0
    made = files_of(home)
    assert {name: made[name] for name in FILES} == files_of(inspected)


def test_pages_dropped_before_the_extraction_come_first_and_have_no_text(
    prose, run_stage, tmp_path
):
    """Of 12 pages the address rule drops 3 and the extraction 1; what is kept of them to read is HTML."""
    paragraph = "<html><body><article><p>{}</p></article></body></html>"
    pages = [
        Page(
            url=f"https://{'bad' if n % 4 == 0 else 'good'}.org/{n}",
            body=(paragraph.format(document["text"]) if n != 5 else "<html></html>").encode(),
            date="2024-03-01T00:00:00Z",
        )
        for n, document in enumerate(prose(12, words=200))
    ]
    archive.write(pages, tmp_path / "collect" / "warc" / "00000.warc.gz")
    rules = {
        "lines": lines.Config(),
        "address": url.Config(builtin_lists=False, domains=["bad.org"]),
        "unmet": url.Config(builtin_lists=False, domains=["none.org"]),
    }
    cfg, inputs = filter.Config(rules=rules), {"pages": tmp_path / "collect"}
    counts = run_stage(cfg, inputs, tmp_path / "filter")
    (tmp_path / "filter" / "manifest.json").write_text(json.dumps({"counts": counts}))
    run_stage(inspect.Config(), {"filter": tmp_path / "filter"}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "ledger.json").read_text())
    told = [(r["rule"], r["documents_in"], r["documents_removed"]) for r in record["totals"]]
    assert told == [("address", 12, 3), ("unmet", 9, 0), ("extract", 9, 1), ("lines", 8, 0)]
    sizes = {(r["bytes_in"], r["bytes_removed"]) for r in record["totals"]}
    assert len(sizes) == 1 and sizes.pop()[1] == 0  # bytes of text: there is none yet
    histograms = json.loads((tmp_path / "out" / "histograms.json").read_text())
    assert {one["fate"] for one in histograms} == {"kept"}
