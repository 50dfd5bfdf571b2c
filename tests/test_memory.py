"""Ten times the documents take no more memory, in every stage of the refinery."""

import json
import random
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from llmhpc.filters import Engine, Extraction, lines, pii, url
from llmhpc.jobs import (
    classifier,
    collect,
    filter,
    mix,
    ngrams,
    shuffle,
    tokenize,
    tokenizer,
    topics,
)
from llmhpc.planning.plan import plain
from llmhpc.sources import Page, archive, jsonl, parquet, warc, wikipedia

pytestmark = pytest.mark.slow
TEXT_MB = 3  # and ten times that
GROWTH_MB = 12  # less than half of what the further documents have
WORDS = 150
PAGES = {"url": url.Config(builtin_lists=False, domains=["bad.org"])}
RULES = PAGES | {"lines": lines.Config(), "pii": pii.Config()}
LEARNT = {"documents": 300, "model_seed": 0}
WIKI = """<mediawiki>
  <siteinfo>
    <dbname>testwiki</dbname>
    <base>https://test.org/wiki/Main</base>
  </siteinfo>
"""
ARTICLE = """  <page>
    <title>Page {n}</title>
    <ns>0</ns>
    <id>{n}</id>
    <revision>
      <timestamp>2024-01-01T00:00:00Z</timestamp>
      <text>{text}</text>
    </revision>
  </page>
"""
STAGES = {  # a name -> the settings, and the inputs: role -> a folder of ``crawl``
    "collect jsonl": (collect.Config(source=jsonl.Config(paths=["crawl.jsonl"])), {}),
    "collect parquet": (collect.Config(source=parquet.Config(paths=["crawl.parquet"])), {}),
    "collect warc": (collect.Config(source=warc.Config(paths=["crawl/warc/*.warc.gz"])), {}),
    "collect wikipedia": (collect.Config(source=wikipedia.Config(dump="crawl.xml")), {}),
    "filter pages": (
        filter.Config(extract=Extraction(engine=Engine.fast), rules=PAGES),
        {"pages": "crawl"},
    ),
    "filter texts": (filter.Config(rules=RULES), {"pages": "texts"}),
    "mix": (
        mix.Config(weights={"a": 1, "b": 2}, needs={"a": "x", "b": "y"}),
        {"a": "texts", "b": "texts"},
    ),
    "shuffle": (shuffle.Config(memory_mb=4), {"documents": "texts"}),
    "tokenizer": (tokenizer.Config(vocab_size=600, sample_mb=1), {"documents": "texts"}),
    "tokenize": (
        tokenize.Config(heldout_fraction=0.01),
        {"documents": "texts", "tokenizer": "tokenizer"},
    ),
    "classifier": (
        classifier.Config(buckets=1000, **LEARNT),
        {"good": "texts", "bad": "texts"},
    ),
    "ngrams": (ngrams.Config(sample_mb=1, order=2), {"documents": "texts"}),
    "topics": (topics.Config(clusters=4, features=1000, **LEARNT), {"documents": "texts"}),
}


@pytest.fixture(scope="module")
def crawls(tmp_path_factory, write_documents, prose, run_stage) -> list[Path]:
    """Two folders of the same kinds of documents, the second of ten times as many: as texts, pages and a wiki."""
    import pyarrow
    from pyarrow import parquet as tables

    folders = []
    vocabulary = prose(1, words=1000)[0]["text"].split()
    for times in (1, 10):
        folder, rng = tmp_path_factory.mktemp(f"crawl-{times}"), random.Random(0)
        documents = []
        size = 0
        while size < TEXT_MB * 1_000_000 * times:
            text = " ".join(rng.choices(vocabulary, k=WORDS))
            size += len(text)
            where = {"url": f"https://example.org/{len(documents)}"}
            documents.append({"text": f"{text}.", "id": f"d{len(documents)}", "metadata": where})
        write_documents(folder / "texts", documents)
        (folder / "crawl.jsonl").write_text("".join(f"{json.dumps(d)}\n" for d in documents))
        flat = [{"text": d["text"], "id": d["id"]} for d in documents]
        table = pyarrow.Table.from_pylist(flat)
        tables.write_table(table, folder / "crawl.parquet", row_group_size=500)
        page = "<html><body><article><p>{}</p></article></body></html>"
        archive.write(
            (
                Page(url=d["metadata"]["url"], body=page.format(d["text"]).encode())
                for d in documents
            ),
            folder / "crawl" / "warc" / "00000.warc.gz",
        )
        with (folder / "crawl.xml").open("w") as file:
            file.write(WIKI)
            for number, document in enumerate(documents):
                file.write(ARTICLE.format(n=number, text=escape(document["text"])))
            file.write("</mediawiki>\n")
        if not folders:
            cfg = STAGES["tokenizer"][0]
            run_stage(cfg, {"documents": folder / "texts"}, folder / "tokenizer")
        else:
            (folder / "tokenizer").symlink_to(folders[0] / "tokenizer")
        folders.append(folder)
    return folders


def peak_mb(stage, inputs, folder: Path, home: Path) -> float:
    script = Path(__file__).with_name("stage_memory.py")
    steps = {role: str(folder / name) for role, name in inputs.items()}
    command = [sys.executable, str(script), json.dumps(plain(stage)), json.dumps(steps), str(home)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.parametrize("name", STAGES)
def test_memory_does_not_grow_with_the_documents(name, crawls, tmp_path):
    stage, inputs = STAGES[name]
    small, large = (peak_mb(stage, inputs, folder, tmp_path / folder.name) for folder in crawls)
    assert large - small < GROWTH_MB, f"{small:.0f} MB, then {large:.0f} MB"
