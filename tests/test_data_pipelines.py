"""The pipelines with published settings run as they are on a local WARC file."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from llmhpc.sources import Page, archive

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
PAGES = 12
LAST = {"fineweb": "mask", "refinedweb": "url"}


STOPS = "the be to of and that have with"
OTHERS = (
    "river house morning garden letter winter teacher village summer window story harbour field bread "
    "remembered crossed described followed painted visited repaired watched measured forgot opened "
    "old quiet distant green wooden narrow famous bright broken gentle heavy early long simple warm"
)


def paragraph(rng: random.Random) -> str:
    """Four lines of English words that no rule has anything against: no five follow each other twice."""
    words = [OTHERS.split(), STOPS.split(), OTHERS.split()]
    sentences = (
        " ".join(rng.choice(words[n % 3]) for n in range(15)).capitalize() + "." for _ in range(4)
    )
    return " ".join(sentences)


@pytest.fixture(scope="module")
def crawl(tmp_path_factory) -> Path:
    """Pages of prose, the last one under a second address; one that is too short, one in another language."""
    rng = random.Random(0)
    texts = ["</p><p>".join(paragraph(rng) for _ in range(6)) for _ in range(PAGES)]
    german = "</p><p>".join(f"Dies ist der Satz {n} auf einer deutschen Seite." for n in range(60))
    bodies = [*texts, texts[-1], "A page.", german]
    pages = [
        Page(
            url=f"https://example.org/{number}",
            body=f"<html><body><article><p>{body}</p></article></body></html>".encode(),
            date="2024-03-01T00:00:00Z",
            content_type="text/html; charset=utf-8",
            file="crawl",
            offset=0,
        )
        for number, body in enumerate(bodies)
    ]
    path = tmp_path_factory.mktemp("crawl") / "pages.warc.gz"
    archive.write(pages, path)
    return path


@pytest.mark.parametrize("pipeline", LAST)
def test_a_published_pipeline_runs_on_a_local_warc_file(pipeline, crawl, tmp_path, read_documents):
    command = [sys.executable, "-m", "llmhpc.launch", f"pipeline={pipeline}", f"root={tmp_path}"]
    given = [f"stages.collect.source.paths=[{crawl}]"]
    done = subprocess.run([*command, *given], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    last = next(tmp_path.glob(f"{LAST[pipeline]}-*"))
    urls = {document["metadata"]["url"] for document in read_documents(last)}
    assert urls
    assert urls <= {f"https://example.org/{number}" for number in range(PAGES + 1)}
    assert not {f"https://example.org/{PAGES - 1}", f"https://example.org/{PAGES}"} <= urls
    counts = json.loads(next(tmp_path.glob("filter-*/manifest.json")).read_text())["counts"]
    assert counts["rules"]["language"]["reasons"]["is_de"] == 1
