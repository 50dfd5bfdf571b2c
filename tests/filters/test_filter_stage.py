"""The filter stage on real pages: what is kept, what is removed, by which rule and which value."""

import filecmp

import pytest

from llmhpc.errors import ConfigError, StageError
from llmhpc.filters import Extraction, c4, fineweb, gopher_quality, gopher_repetition, language, url
from llmhpc.filters.blocks import chain, extract
from llmhpc.filters.blocks.pages import decode
from llmhpc.jobs import filter as stage
from llmhpc.sources import Page, archive
from llmhpc.task import Task

ENGLISH = [
    f"The {a} of the village walked to the {b} and spoke with the people that have lived there."
    for a in ("teacher", "doctor", "baker", "miller", "singer")
    for b in ("market", "river", "church", "bridge", "harbour")
]
GERMAN = [
    f"Der {a} des Dorfes ging am Morgen zum {b} und sprach mit den Leuten, die dort wohnen."
    for a in ("Lehrer", "Arzt", "Bäcker", "Müller", "Sänger")
    for b in ("Markt", "Fluss", "Turm", "Hafen", "Brunnen")
]

# Fewer than 50 words, but over the 250 characters below which trafilatura writes a text twice.
BRIEF = (
    "Experienced fishermen return through dangerous northern waters with extraordinary quantities of "
    "mackerel, while enthusiastic grandchildren observe everything from weathered limestone staircases "
    "beside the lighthouse; neighbouring restaurants have already prepared traditional celebrations "
    "that welcome them."
)


def page(name, paragraphs):
    inside = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    html = (
        f"<html><head><title>{name}</title></head><body><article>{inside}</article></body></html>"
    )
    return Page(url=f"https://example.org/{name}", body=html.encode(), file="in.warc", offset=7)


PAGES = [
    page("english", ENGLISH),
    page("english-too", ENGLISH[::-1]),
    page("german", GERMAN),
    page("repeated", ENGLISH[:2] * 12),
    page("short", [BRIEF]),
    page("code", [*ENGLISH, "A set is written as {1, 2, 3} in this language."]),
    Page(url="https://example.org/empty", body=b"<html><body></body></html>"),
]
RULES = {
    "language": language.Config(),
    "repetition": gopher_repetition.Config(dup_5_grams=0.9, dup_6_grams=0.9, dup_7_grams=0.9,
                                           dup_8_grams=0.9, dup_9_grams=0.9, dup_10_grams=0.9,
                                           top_2_gram=0.9, top_3_gram=0.9, top_4_gram=0.9),
    "quality": gopher_quality.Config(),
    "c4": c4.Config(),
    "fineweb": fineweb.Config(),
}  # fmt: skip


def run(folder, home, rules=RULES, ranks=1):
    cfg = stage.Config(ranks=ranks, rules=rules)
    home.mkdir()
    return [
        stage.run(cfg, {"pages": folder}, home, Task(phase="main", rank=r, ranks=ranks, seed=0, home=home))
        for r in range(ranks)
    ]  # fmt: skip


def write(folder, shards):
    for number, pages in enumerate(shards):
        archive.write(pages, folder / "warc" / f"{number:05d}.warc.gz")
    return folder


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    base = tmp_path_factory.mktemp("filter")
    home = base / "out"
    return run(write(base / "pages", [PAGES]), home)[0], home


def test_each_page_is_kept_or_removed_by_the_rule_that_is_meant_for_it(filtered, read_documents):
    _, home = filtered
    where = {"kept": "documents"} | {name: f"removed/{name}" for name in ("extract", *RULES)}
    found = {
        name: [d["metadata"]["url"].rsplit("/", 1)[1] for d in read_documents(home, folder)]
        for name, folder in where.items()
    }
    assert found == {
        "kept": ["english", "english-too"],
        "extract": ["empty"],
        "language": ["german"],
        "repetition": ["repeated"],
        "quality": ["short"],
        "c4": ["code"],
        "fineweb": [],
    }


def test_a_removed_document_names_the_rule_and_the_value_that_dropped_it(filtered, read_documents):
    _, home = filtered
    for name, sentence in {
        "extract": "main text 0 of",
        "language": "language de (",
        "repetition": "dup_para",
        "quality": "words ",
        "c4": "curly brackets 1 > 0",
    }.items():
        (document,) = read_documents(home, f"removed/{name}")
        because = document["metadata"]["dropped_because"]
        assert document["metadata"]["dropped_by"] == name
        assert because.startswith((sentence, "dup_line")) and any(c.isdigit() for c in because)


def test_the_counts_add_up_from_rule_to_rule(filtered):
    counts, _ = filtered
    assert counts["documents_in"] == len(PAGES) and counts["documents"] == 2
    left = counts["documents_in"]
    for rule in (counts["extract"], *counts["rules"].values()):
        assert rule["in"] == left == rule["kept"] + rule["dropped"]
        assert sum(rule["reasons"].values()) == rule["dropped"]
        left = rule["kept"]
    assert left == counts["documents"]


def test_addresses_are_judged_before_the_main_text_is_taken_out(tmp_path, read_documents):
    listed = Page(url="https://bad.org/x", body=b"<p>a page</p>" * 1000)
    addresses = url.Config(builtin_lists=False, domains=["bad.org"])
    rules = {"language": language.Config(), "url": addresses}
    (counts,) = run(write(tmp_path / "in", [[*PAGES, listed]]), tmp_path / "out", rules)
    before, left = counts["before_extract"], len(PAGES)
    assert counts["documents_in"] == before["url"]["in"] == left + 1
    assert before["url"]["kept"] == counts["extract"]["in"] == left
    assert list(counts["rules"]) == ["language"]
    (document,) = read_documents(tmp_path / "out", "removed/url")
    assert document["text"] == ("<p>a page</p>" * 1000)[: chain.EXCERPT_CHARACTERS]
    assert document["metadata"]["dropped_because"] == "domain bad.org is listed"


def test_a_document_says_where_its_page_lies(filtered, read_documents):
    _, home = filtered
    first, second = read_documents(home)
    about = first["metadata"]
    assert (about["source"], about["source_offset"]) == ("in.warc", 7)
    assert about["warc"] == "00000.warc.gz" and about["warc_offset"] == 0
    assert second["metadata"]["warc_offset"] > 0
    assert about["language"] == "en" and 0.65 < about["language_score"] <= 1


def test_documents_do_not_depend_on_the_number_of_ranks(tmp_path, read_documents):
    folder = write(
        tmp_path / "pages", [PAGES[:4], [page("more", ENGLISH[5:])], [page("last", ENGLISH[3:])]]
    )
    run(folder, tmp_path / "one", ranks=1)
    run(folder, tmp_path / "three", ranks=3)
    by_id = [sorted(read_documents(tmp_path / n), key=lambda d: d["id"]) for n in ("one", "three")]
    assert by_id[0] == by_id[1] and len(by_id[0]) == 4


def test_filtering_twice_gives_the_same_bytes(tmp_path):
    folder = write(tmp_path / "pages", [PAGES])
    for name in ("one", "two"):
        run(folder, tmp_path / name)
    for path in (tmp_path / "one").rglob("*.zst"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert filecmp.cmp(path, other, shallow=False)


def test_an_extractor_that_finds_nothing_anywhere_fails_the_rank(tmp_path):
    empty = [Page(url=f"https://e.org/{n}", body=b"<html><body></body></html>") for n in range(3)]
    with pytest.raises(StageError, match="no text for any of 3 pages.*'empty': 3"):
        run(write(tmp_path / "pages", [empty]), tmp_path / "out")


def test_an_extractor_that_breaks_on_every_page_stops_the_rank_early(tmp_path, monkeypatch):
    def broken(self, text, engine=None):
        return ValueError("no parser") if text else None

    monkeypatch.setattr(extract.MainText, "extract", broken)
    pages = [page(f"p{n}", ENGLISH) for n in range(extract.FAILURES_AT_START + 10)]
    with pytest.raises(StageError, match="failed on the first 20 pages: ValueError: no parser"):
        run(write(tmp_path / "pages", [pages]), tmp_path / "out")


def test_a_missing_package_fails_the_rank_by_name(tmp_path, monkeypatch):
    def missing(name, rule, removed):
        raise ImportError("Please install `fasttext`")

    monkeypatch.setattr(chain, "_block", missing)
    with pytest.raises(StageError, match="a package of the filter stage is missing.*fasttext"):
        run(write(tmp_path / "pages", [PAGES]), tmp_path / "out")


def test_more_ranks_than_files_of_pages_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="ranks=2: only 1 files of pages to share; 1 or fewer"):
        run(write(tmp_path / "pages", [PAGES]), tmp_path / "out", ranks=2)


def test_a_rule_may_not_take_the_name_of_the_extraction():
    with pytest.raises(ConfigError, match="rules.extract"):
        stage.Config(rules={"extract": language.Config()})


def test_a_language_model_that_is_not_there_is_named_before_the_launch():
    cfg = stage.Config(rules={"language": language.Config(model="/no/such.ftz")})
    with pytest.raises(ConfigError, match="model=/no/such.ftz: /no/such.ftz is not there"):
        cfg.before_launch()


@pytest.mark.parametrize(("body", "content_type"), [
    ("Käse".encode(), "text/html; charset=iso-8859-1"),  # the declaration is wrong
    ("Käse".encode("latin-1"), "text/html; charset=iso-8859-1"),
    (b'<meta charset="latin-1">' + "Käse".encode("latin-1"), "text/html"),
    ("Käse".encode("latin-1"), "text/html; charset=no-such"),
    (b"\xef\xbb\xbfK\xc3\xa4se", "text/html"),
])  # fmt: skip
def test_a_page_is_read_in_its_own_charset(body, content_type):
    assert decode(body, content_type).endswith("se")
    if b"no-such" not in content_type.encode():
        assert decode(body, content_type).endswith("Käse")


def test_a_timeout_below_a_second_is_refused():
    with pytest.raises(ConfigError, match="timeout_s=0.5: 1 or more"):
        Extraction(timeout_s=0.5)


def test_a_folder_of_html_files_becomes_documents(tmp_path):
    from llmhpc.planning.registry import load
    from llmhpc.sources.html import Config as Html
    from llmhpc.task import Task

    (tmp_path / "pages").mkdir()
    sentence = (
        "The library keeps the old books of the town and lends them to whoever asks for them. "
    )
    for name in ("one", "two"):
        page = f"<html><body><article><h1>{name}</h1><p>{sentence * 6}</p></article></body></html>"
        (tmp_path / "pages" / f"{name}.html").write_text(page)
    collect, refine = (load("stage", kind) for kind in ("collect", "filter"))
    steps = {}
    for name, job, cfg, inputs in (
        ("collect", collect, collect.Config(source=Html(folder=str(tmp_path / "pages"))), {}),
        ("filter", refine, refine.Config(), {"pages": tmp_path / "collect"}),
    ):
        task = Task(phase="main", rank=0, ranks=1, seed=0, home=tmp_path / name)
        steps[name] = job.run(cfg, inputs, tmp_path / name, task)
    assert steps["collect"]["pages"] == steps["filter"]["documents"] == 2
