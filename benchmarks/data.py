"""What the fast paths of the data stages gain over datatrove's own blocks, on one core, and whether they agree.

python -m benchmarks.data [--json] [--parts chain reading]
python -m benchmarks.data --scale
python -m benchmarks.data --labelled FOLDER

Both sides have the same documents in the same process, in turn; a ratio is the median over the rounds of CPU time over CPU
time, with the least and the greatest. The documents are pages with known main text (benchmarks/labelled.py, or x.html beside
x.txt in FOLDER) and pages of Python's own documentation. A path that remembers words has learnt them on one half of the
documents and some hundred more, and is timed on the other: a long run's steady state. "Cold" is the same half with nothing remembered.
"""

import argparse
import io
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.copies import (
    BUCKETS,
    HASHES,
    NGRAM,
    THRESHOLD,
    sharing_a_bucket,
    similarities,
    with_copies,
)
from benchmarks.labelled import Labelled, f1, labelled_folder, labelled_pages
from benchmarks.paired import Row, Timer, compare

LEARNT_RANKS = 5  # further ones, for what remembers words
LEARNT_PAGES = 600  # labelled ones, likewise
PYDOC_RANKS = 24  # one of so many parts of the quickstart's pages
LEAST_CHARACTERS = 200  # of a main text
VOCABULARY = 8000
TURNS = 10  # as often is each page in the crawl's WARC
WEB_PAGE_BYTES = (20_000, 100_000)  # as large as most pages of a crawl


@dataclass(slots=True)
class Documents:
    """What is measured on."""

    labelled: list[Labelled]
    pages: list[Any]  # of Python's documentation, as a source gives them
    html: list[str]  # of both
    learnt: list[str]  # main texts, no two of the same
    texts: list[str]  # other ones, for the clock


def documents(folder: Path | None, count: int) -> Documents:
    """The labelled pages and a part of the pages that the quickstart collects."""
    from llmhpc.filters.blocks.pages import decode
    from llmhpc.planning.compose import compose
    from llmhpc.sources import Reading, pages_of

    labelled = labelled_folder(folder) if folder else labelled_pages(count)
    source = compose([]).stages["collect"].source  # type: ignore[attr-defined]
    pages, *others = (
        list(pages_of(source, Reading(rank=rank, ranks=PYDOC_RANKS)))
        for rank in range(1 + LEARNT_RANKS)
    )
    html = [page.page for page in labelled] + [decode(p.body, p.content_type) for p in pages]
    once = {page.text: page.page for page in labelled} | dict(enumerate(html[len(labelled) :]))  # type: ignore[arg-type]
    texts = _main_texts(once.values())
    unseen = [page for page in labelled_pages(LEARNT_PAGES) if page.text not in once]
    learnt = [page.page for page in unseen] + [
        decode(p.body, p.content_type) for part in others for p in part
    ]
    return Documents(labelled, pages, html, texts[::2] + _main_texts(learnt), texts[1::2])


def _main_texts(html: Iterable[str]) -> list[str]:
    from llmhpc.filters.blocks.resilient import main_text

    return [text for page in html if len(text := main_text(page)) >= LEAST_CHARACTERS]


def reading(given: Documents, rounds: int) -> Iterable[Row]:
    """Our WARC source against warcio, on a crawl's records and on a collect step's."""
    from warcio.archiveiterator import ArchiveIterator

    from llmhpc.sources import Reading, archive, warc

    with tempfile.TemporaryDirectory() as folder:
        collected, crawled = Path(folder) / "collected.warc.gz", Path(folder) / "crawled.warc.gz"
        archive.write(given.pages, collected)
        crawl(given.html, crawled)
        for name, path in (("a crawl's WARC", crawled), ("a collect step's", collected)):

            def reference(path: Path = path) -> Iterator[tuple[str, str, bytes]]:
                with path.open("rb") as file:
                    for record in ArchiveIterator(file):
                        if record.rec_type == "response":
                            url = record.rec_headers.get_header("WARC-Target-URI")
                            kind = record.http_headers.get_header("Content-Type")
                            yield url, kind, record.content_stream().read()

            def fast(path: Path = path) -> Iterator[Any]:
                return warc.read_pages([str(path)], 50_000_000, Reading(rank=0, ranks=1))

            pages = list(reference())
            same = [(page.url, page.content_type, page.body) for page in fast()] == pages
            yield compare(
                f"reading {name} / warcio", 3, len(pages), 3 * rounds, {"pages equal": same},
                lambda timed, run=reference: timed(_let_go, run), lambda timed, run=fast: timed(_let_go, run),
            )  # fmt: skip


def _let_go(pages: Callable[[], Iterator[Any]]) -> None:
    """Read one page after the other and keep none, as the stages do."""
    for _ in pages():
        pass


def crawl(html: list[str], path: Path) -> None:
    """Pages as Common Crawl has them: a request, the response with its headers, metadata."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    sent = (
        "Host: example.org\r\nUser-Agent: bot/2.0\r\nAccept: text/html\r\nAccept-Encoding: br,gzip"
    )
    named = {
        "Date": "Fri, 01 Mar 2024 12:00:00 GMT", "Server": "nginx", "X-Crawl-Content-Encoding": "gzip",
        "Content-Type": "text/html; charset=UTF-8", "Vary": "Accept-Encoding", "X-Frame-Options": "DENY",
        "Cache-Control": "max-age=0, must-revalidate", "Link": '<https://example.org/w/>; rel="api"',
        "Strict-Transport-Security": "max-age=31536000", "Set-Cookie": "id=0123456789abcdef; path=/",
    }  # fmt: skip
    least, most = WEB_PAGE_BYTES
    bodies = [body for page in html if least <= len(body := page.encode()) <= most]
    bodies *= TURNS  # a file has thousands of pages: what is to be measured is reading, not opening
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number, body in enumerate(bodies):
            length = {
                "X-Crawl-Content-Length": str(len(body) // 4),
                "Content-Length": str(len(body)),
            }
            http = StatusAndHeaders(
                "200 OK", [*named.items(), *length.items()], protocol="HTTP/1.1"
            )
            get = StatusAndHeaders(f"GET /{number} HTTP/1.1", [x.split(": ") for x in sent.split("\r\n")], is_http_request=True)  # fmt: skip
            about = b"fetchTimeMs: 300\r\ncharset-detected: UTF-8\r\nlanguages-cld2: {}\r\n"
            for kind, payload, headers in (
                ("request", b"", get),
                ("response", body, http),
                ("metadata", about, None),
            ):
                where = f"https://example.org/{number}"
                more = {"WARC-IP-Address": "192.0.2.1", "WARC-Identified-Payload-Type": "text/html"}
                record = writer.create_warc_record(
                    where, kind, io.BytesIO(payload), http_headers=headers,
                    warc_headers_dict=more if kind == "response" else {},
                )  # fmt: skip
                writer.write_record(record)


def extraction(given: Documents, rounds: int) -> Iterable[Row]:
    """resiliparse as we use it against trafilatura as datatrove has it."""
    from datatrove.pipeline.extractors import Trafilatura

    from llmhpc.filters.blocks.resilient import main_text

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    stock = Trafilatura(favour_precision=True, deduplicate=False).extract
    scores: dict[str, Any] = {
        f"F1 of {name}": round(
            statistics.mean(f1(by(x.page) or "", x.text) for x in given.labelled), 4
        )
        for name, by in {"trafilatura": stock, "ours": main_text}.items()
    }
    yield compare(
        "extraction / trafilatura", 10, len(given.html), rounds, scores | {"labelled": len(given.labelled)},
        lambda timed: timed(lambda: [stock(page) for page in given.html]),
        lambda timed: timed(lambda: [main_text(page) for page in given.html]),
    )  # fmt: skip


def language(given: Documents, rounds: int) -> Iterable[Row]:
    """Our way of asking the model against datatrove's filter, which asks fastText for every label."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import LanguageFilter
    from fasttext.FastText import _FastText

    from llmhpc.filters import language as rule

    fast = rule.build(rule.Config())
    stock = LanguageFilter(languages=["en"], language_threshold=rule.Config().threshold)
    stock.model._model = _FastText(str(rule.model_file(rule.Config())))  # it would be downloaded
    texts = given.texts + given.learnt[: len(given.texts)]

    def judged(block: Any) -> list[tuple[bool, str]]:
        asked = [Document(text=text, id="") for text in texts]
        kept = [block.filter(document) for document in asked]
        return [(k is True, d.metadata["language"]) for k, d in zip(kept, asked, strict=True)]

    equal = statistics.mean(a == b for a, b in zip(judged(stock), judged(fast), strict=True))
    yield compare(
        "language id / datatrove", 3, len(texts), rounds, {"decisions and labels equal": round(equal, 4)},
        lambda timed: timed(judged, stock), lambda timed: timed(judged, fast),
    )  # fmt: skip


def fates(blocks: dict[str, Any], texts: list[str]) -> list[str]:
    """Of each text: "kept", or the rule and the reason that dropped it."""
    from datatrove.data import Document

    found = []
    for text in texts:
        document, fate = Document(text=text, id=""), "kept"
        for name, block in blocks.items():
            kept = block.filter(document)
            if kept is not True:
                fate = f"{name}: {kept[1]}"
                break
        found.append(fate)
    return found


def chain(given: Documents, rounds: int) -> Iterable[Row]:
    """The rules of conf/stage/filter on remembered words against datatrove's filters as they are; language has a row."""
    from llmhpc.filters import Splitter
    from llmhpc.filters.blocks.words import splitting
    from llmhpc.planning.compose import compose
    from llmhpc.planning.registry import load

    texts = given.texts
    for kind in ("web", "pydoc"):
        rules = dict(compose([f"stage/filter@stages.filter={kind}"]).stages["filter"].rules)  # type: ignore[attr-defined]
        rules.pop("language")
        modules = {name: load("rule", rule.kind) for name, rule in rules.items()}
        stock = {name: module.reference(rules[name]) for name, module in modules.items()}
        ours = {name: module.build(rules[name]) for name, module in modules.items()}

        def fast(timed: Timer, learnt: list[str], ours: Any = ours) -> Any:
            with splitting(Splitter.remembered):
                fates(ours, learnt)
                return timed(fates, ours, texts)

        theirs = fates(stock, texts)
        found = fast(lambda run, *arguments: run(*arguments), given.learnt)
        pairs = list(enumerate(zip(theirs, found, strict=True)))
        differing = [f"{number}: {a} / {b}" for number, (a, b) in pairs if a != b]
        agreement = {
            "decisions equal": round(1 - len(differing) / len(texts), 4),
            "kept": theirs.count("kept"),
            "differing": differing,
        }
        yield compare(
            f"filter chain {kind} / datatrove", 5, len(texts), rounds, agreement,
            lambda timed, stock=stock: timed(fates, stock, texts),
            lambda timed, fast=fast: fast(timed, given.learnt), lambda timed, fast=fast: fast(timed, []),
        )  # fmt: skip


def minhash(given: Documents, rounds: int) -> Iterable[Row]:
    """Signatures against datatrove's block on texts with planted copies, and which pairs either finds."""
    import numpy as np
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    from llmhpc.dedup.blocks.signature import HASH_SEED, Signer

    texts = with_copies(given.texts)
    config = MinhashConfig(n_grams=NGRAM, num_buckets=BUCKETS, hashes_per_bucket=HASHES, seed=HASH_SEED)  # fmt: skip
    stock = MinhashDedupSignature(".", config, "en")

    def by_datatrove() -> list[Any]:
        shingles = [stock.get_shingles(text) for text in texts]
        return [np.concatenate(stock.get_signature(s)) if len(s) else None for s in shingles]

    def fast(timed: Timer, learnt: list[str]) -> Any:
        signer = Signer(BUCKETS * HASHES, NGRAM, "en")
        for text in learnt:
            signer.sign(text)
        return timed(lambda: [signer.sign(text) for text in texts])

    similar = similarities(stock, texts)
    true = {pair for pair, share in similar.items() if share >= THRESHOLD}
    theirs, ours = by_datatrove(), fast(lambda run: run(), given.learnt)
    agreement: dict[str, Any] = {
        "signatures equal": sum(map(np.array_equal, theirs, ours)),
        "of": len(texts),
    }
    for name, signatures in {"datatrove": theirs, "ours": ours}.items():
        found = sharing_a_bucket(signatures)
        hits = len(found & true)
        agreement[f"{name}: recall, precision at {THRESHOLD}"] = [
            round(hits / max(1, len(whole)), 3) for whole in (true, found)
        ]
    yield compare(
        "MinHash signatures / datatrove", 8, len(texts), rounds, agreement,
        lambda timed: timed(by_datatrove), lambda timed: fast(timed, given.learnt), lambda timed: fast(timed, []),
    )  # fmt: skip


def tokenizing(given: Documents, rounds: int) -> Iterable[Row]:
    """Our compiled loops against the tokenizers library, as datatrove calls it and in its fastest way."""
    import numpy as np

    from llmhpc.tokens.bpe import train_bpe
    from llmhpc.tokens.ids import Ids

    tokenizer = train_bpe(given.learnt, VOCABULARY)
    tokenizer.encode_special_tokens = True
    texts, dtype = given.texts, np.dtype("<u2")

    def stock(encode: Callable[..., Any]) -> list[Any]:
        return [np.array([*found.ids, 0], dtype=dtype) for found in encode(texts)]

    def fast(timed: Timer, learnt: list[str]) -> Any:
        ids = Ids(tokenizer, dtype)
        ids.encode(learnt, 0)
        return timed(ids.encode, texts, 0)

    for encode in (tokenizer.encode_batch, tokenizer.encode_batch_fast):
        pairs = zip(stock(encode), fast(lambda run, *a: run(*a), given.learnt), strict=True)
        yield compare(
            f"tokenizing / {encode.__name__}", 5, len(texts), 3 * rounds,
            {"identical ids": all(np.array_equal(a, b) for a, b in pairs)},
            lambda timed, encode=encode: timed(stock, encode),
            lambda timed: fast(timed, given.learnt), lambda timed: fast(timed, []),
        )  # fmt: skip


def one_rank(html: list[str]) -> int:
    """What a rank of the filter stage does with its pages: main text, rules; returns how many."""
    from llmhpc.filters import Splitter
    from llmhpc.filters.blocks.resilient import main_text
    from llmhpc.filters.blocks.words import splitting
    from llmhpc.planning.compose import compose
    from llmhpc.planning.registry import load

    rules = compose([]).stages["filter"].rules  # type: ignore[attr-defined]
    blocks = {name: load("rule", rule.kind).build(rule) for name, rule in rules.items()}
    with splitting(Splitter.remembered):
        fates(blocks, [main_text(page) for page in html])
    return len(html)


def scale(html: list[str], rounds: int) -> dict[str, float]:
    """Documents per second of wall time for 1, 2 and 4 ranks that extract and filter at once."""
    found = {}
    for ranks in (1, 2, 4):
        with ProcessPoolExecutor(ranks, mp_context=get_context("spawn")) as pool:
            list(pool.map(one_rank, [html[:2]] * ranks))  # imports and models
            taken = []
            for _ in range(rounds):
                begun = time.monotonic()
                list(pool.map(one_rank, [html[rank::ranks] for rank in range(ranks)]))
                taken.append(time.monotonic() - begun)
        found[str(ranks)] = round(len(html) / statistics.median(taken), 1)
    return found


PARTS = {
    part.__name__: part for part in (reading, extraction, language, chain, minhash, tokenizing)
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for."""
    given = documents(options.labelled, options.pages)
    if options.scale:
        return {"cores": os.cpu_count(), "documents/s by ranks": scale(given.html, options.rounds)}
    rows = []
    for name in options.parts:
        for row in PARTS[name](given, options.rounds):
            rows.append(asdict(row) | {"met": row.ratio >= row.goal})
            print(line(rows[-1]), file=sys.stderr, flush=True)
    size = sum(map(len, given.html)) / 1e6
    load = round(os.getloadavg()[0], 1)
    return {"pages": len(given.html), "html_mb": round(size, 1), "load": load, "rows": rows}


def line(row: dict[str, Any]) -> str:
    """A row of the table for people."""
    cold = f"cold {row['cold']:.2f}x" if row["cold"] else ""
    return (
        f"{row['what']:40} {row['ratio']:6.2f}x ({row['least']:.2f}-{row['greatest']:.2f}) {cold:11}"
        f" {row['reference_per_s']:8.1f} -> {row['fast_per_s']:8.1f} docs/s  goal {row['goal']:g}:"
        f" {'met' if row['met'] else 'NOT met'}"
    )


def show(result: dict[str, Any]) -> None:
    """The table for people, with what the two sides agree on and where the time goes."""
    for row in result.pop("rows", []):
        print(line(row))
        for name, value in row["agreement"].items():
            print(f"      {name}: {value}")
        print("      time: " + "; ".join(row["time_goes_to"]))
    print("; ".join(f"{name}: {value}" for name, value in result.items()))


def main() -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--scale", action="store_true", help="documents/s for 1, 2 and 4 ranks")
    parser.add_argument("--labelled", type=Path, help="a folder: x.html, its main text in x.txt")
    parser.add_argument("--pages", type=int, default=80, help="labelled pages to make")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=" ".join(PARTS))  # fmt: skip
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    result = measure(options)
    print(json.dumps(result)) if options.json else show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
