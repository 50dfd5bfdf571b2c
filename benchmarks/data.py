"""What the fast paths of the data stages gain over datatrove's own blocks, on one core, and whether they agree.

python -m benchmarks.data
python -m benchmarks.data --json
python -m benchmarks.data --scale
python -m benchmarks.data --labelled FOLDER

Both sides have the same documents in the same process, in turn; a ratio is the median over the rounds of CPU time over CPU time,
with the least and the greatest. The documents are pages with known main text (benchmarks/labelled.py, or x.html beside x.txt in
FOLDER) and pages of Python's own documentation. What a fast path remembers of earlier documents it has forgotten in the "cold" rows; "steady" is
a half of the documents after the other half was read, as a rank meets new ones; "warm" is the same documents again.
"""

import argparse
import cProfile
import json
import logging
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.labelled import Labelled, f1, labelled_folder, labelled_pages

VOCABULARY = 8000
PYDOC_RANKS = 24  # one of so many parts of the quickstart's pages
PROFILE_LINES = 6


@dataclass(slots=True)
class Row:
    """One comparison: how much faster, and how far the two agree."""

    what: str
    goal: float
    ratio: float
    least: float
    greatest: float
    reference_per_s: float
    fast_per_s: float
    agreement: dict[str, Any] = field(default_factory=dict)
    time_goes_to: list[str] = field(default_factory=list)


def compare(
    what: str,
    goal: float,
    reference: Callable[[], object],
    fast: Callable[[], object],
    documents: int,
    rounds: int,
    agreement: dict[str, Any],
) -> Row:
    """Run both in turn and note CPU seconds; then the fast one once more under the profiler."""
    seconds: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = [0.0, 0.0]
        for side in (0, 1) if number % 2 else (1, 0):
            begun = time.process_time()
            (reference, fast)[side]()
            pair[side] = time.process_time() - begun
        seconds.append((pair[0], pair[1]))
    ratios = sorted(slow / quick for slow, quick in seconds)
    medians = [statistics.median(times) for times in zip(*seconds, strict=True)]
    profile = cProfile.Profile()
    profile.runcall(fast)
    return Row(
        what,
        goal,
        *(round(r, 2) for r in (statistics.median(ratios), ratios[0], ratios[-1])),
        *(round(documents / median, 1) for median in medians),
        agreement,
        _top(profile),
    )


def _top(profile: cProfile.Profile) -> list[str]:
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    first = sorted(stats.items(), key=lambda item: -item[1][2])[:PROFILE_LINES]
    return [f"{entry[2] / total:4.0%} {Path(file).name}:{name}" for (file, _, name), entry in first]


def pydoc_pages() -> list[Any]:
    """A part of the pages that the quickstart collects."""
    from llmhpc.planning.compose import compose
    from llmhpc.sources import Reading, pages_of

    source = compose([]).stages["collect"].source  # type: ignore[attr-defined]
    return list(pages_of(source, Reading(rank=0, ranks=PYDOC_RANKS)))


def reading(pages: list[Any], rounds: int) -> list[Row]:
    """Our WARC source against warcio."""
    from warcio.archiveiterator import ArchiveIterator

    from llmhpc.sources import Reading, archive, warc

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.warc.gz"
        archive.write(pages, path)

        def reference() -> list[tuple[str, bytes]]:
            found = []
            with path.open("rb") as file:
                for record in ArchiveIterator(file):
                    if record.rec_type == "response":
                        url = record.rec_headers.get_header("WARC-Target-URI")
                        record.http_headers.get_header("Content-Type")
                        found.append((url, record.content_stream().read()))
            return found

        def fast() -> list[Any]:
            return list(warc.read_pages([str(path)], 50_000_000, Reading(rank=0, ranks=1)))

        same = [(page.url, page.body) for page in fast()] == reference()
        return [
            compare("reading / warcio", 3, reference, fast, len(pages), 5 * rounds, {"same": same})
        ]


def extraction(html: list[str], labelled: list[Labelled], rounds: int) -> list[Row]:
    """resiliparse as we use it against trafilatura as datatrove has it."""
    from datatrove.pipeline.extractors import Trafilatura

    from llmhpc.filters.blocks.resilient import main_text

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    stock = Trafilatura(favour_precision=True, deduplicate=False).extract
    scores = {"trafilatura": stock, "fast": main_text}
    means = {
        f"F1 {name}": round(statistics.mean(f1(by(x.page) or "", x.text) for x in labelled), 4)
        for name, by in scores.items()
    }
    return [
        compare(
            "extraction / trafilatura", 10,
            lambda: [stock(page) for page in html], lambda: [main_text(page) for page in html],
            len(html), rounds, means | {"labelled": len(labelled)},
        )
    ]  # fmt: skip


def language(texts: list[str], rounds: int) -> list[Row]:
    """The first 2000 characters against datatrove's filter on all of them."""
    from datatrove.data import Document

    from llmhpc.filters import language as rule

    def judged(judge: Any) -> list[tuple[bool, str]]:
        found = []
        for text in texts:
            document = Document(text=text, id="")
            kept = judge.filter(document)
            found.append((kept is True, document.metadata["language"]))
        return found

    stock = rule.build(rule.Config()).judge  # type: ignore[attr-defined]
    stock.model.k = -1
    fast = rule.build(rule.Config(first_characters=2000))
    one, other = judged(stock), judged(fast)
    same = sum(a == b for a, b in zip(one, other, strict=True)) / len(texts)
    return [
        compare("language id / datatrove", 3, lambda: judged(stock), lambda: judged(fast),
                len(texts), rounds, {"decisions and labels equal": round(same, 4)})
    ]  # fmt: skip


def chain(texts: list[str], kind: str, rounds: int) -> list[Row]:
    """The rules of conf/stage/filter/<kind>.yaml on remembered words against datatrove's filters as they are."""
    from datatrove.data import Document
    from datatrove.utils.text import split_into_parts

    from llmhpc.filters import Splitter
    from llmhpc.filters.blocks.words import splitting
    from llmhpc.planning.compose import compose

    rules = compose([f"stage/filter@stages.filter={kind}"]).stages["filter"].rules  # type: ignore[attr-defined]
    rules = {name: rule for name, rule in rules.items() if name != "language"}
    modules = {name: import_module(f"llmhpc.filters.{rule.kind}") for name, rule in rules.items()}
    ours = {name: modules[name].build(rule) for name, rule in rules.items()}
    stock = {name: modules[name].reference(rule) for name, rule in rules.items()}

    def run(blocks: dict[str, Any], by: Splitter | None) -> list[tuple[str, str]]:
        found = []
        split_into_parts.cache_clear()  # what datatrove remembers of the last texts
        with splitting(by) if by else nullcontext():
            for text in texts:
                document, fate = Document(text=text, id=""), ("kept", "")
                for name, block in blocks.items():
                    kept = block.filter(document)
                    if kept is not True:
                        fate = (name, kept[1])
                        break
                found.append(fate)
        return found

    one, other = run(stock, None), run(ours, Splitter.remembered)
    differing = [
        f"{n}: {a} / {b}" for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
    ]
    agreement = {
        "decisions equal": round(1 - len(differing) / len(texts), 4),
        "kept": sum(fate[0] == "kept" for fate in one),
        "differing": differing,
    }
    rows = [compare(f"filter chain {kind}, cold / datatrove", 5, lambda: run(stock, None),
                    lambda: run(ours, Splitter.remembered), len(texts), rounds, agreement)]  # fmt: skip
    earlier, texts = texts[::2], texts[1::2]  # run reads texts
    for state, learnt in (("steady", earlier), ("warm", texts)):
        seconds = []
        for _ in range(rounds):
            with splitting(Splitter.remembered):
                unseen, texts = texts, learnt
                run(ours, None)
                texts = unseen
                quick = _seconds(lambda: run(ours, None))
            seconds.append((_seconds(lambda: run(stock, None)), quick))
        ratios = sorted(a / b for a, b in seconds)
        rows.append(Row(f"filter chain {kind}, {state} / datatrove", 5,
                        *(round(r, 2) for r in (statistics.median(ratios), ratios[0], ratios[-1])),
                        *(round(len(texts) / statistics.median(t), 1)
                          for t in zip(*seconds, strict=True))))  # fmt: skip
    return rows


def _seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def tokenizing(texts: list[str], rounds: int) -> list[Row]:
    """Looking words up against the tokenizers library, as datatrove calls it and in its faster way."""
    import numpy as np

    from llmhpc.tokens.bpe import train_bpe
    from llmhpc.tokens.encode import Encoder
    from llmhpc.tokens.words import Words

    tokenizer = train_bpe(texts, VOCABULARY)
    tokenizer.encode_special_tokens = True
    dtype = np.dtype("<u2")

    def encoder() -> Encoder:
        words = Words(tokenizer, dtype)
        return Encoder(
            tokenizer=tokenizer, eos_id=0, vocab_size=VOCABULARY, dtype=dtype, words=words
        )

    known = encoder()
    pairs = zip(known.encode(texts), known.reference(texts), strict=True)
    agreement = {"identical ids": all(np.array_equal(a, b) for a, b in pairs)}

    def stock() -> list[Any]:
        found = tokenizer.encode_batch(texts)
        return [np.array([*encoding.ids, 0], dtype=dtype) for encoding in found]

    sides = {
        "tokenizing, warm / encode_batch": (stock, lambda: known.encode(texts)),
        "tokenizing, cold / encode_batch": (stock, lambda: encoder().encode(texts)),
        "tokenizing, warm / encode_batch_fast": (
            lambda: known.reference(texts),
            lambda: known.encode(texts),
        ),
    }
    return [
        compare(name, 5, slow, fast, len(texts), rounds, agreement)
        for name, (slow, fast) in sides.items()
    ]


def one_rank(share: list[str]) -> int:
    """Extract, filter: what one rank does with its pages; returns how many."""
    from datatrove.data import Document

    from llmhpc.filters import Splitter
    from llmhpc.filters.blocks.resilient import main_text
    from llmhpc.filters.blocks.words import splitting
    from llmhpc.planning.compose import compose

    rules = compose([]).stages["filter"].rules  # type: ignore[attr-defined]
    blocks = [import_module(f"llmhpc.filters.{r.kind}").build(r) for r in rules.values()]
    with splitting(Splitter.remembered):
        for page in share:
            document = Document(text=main_text(page), id="")
            all(block.filter(document) is True for block in blocks)
    return len(share)


def scale(html: list[str], rounds: int) -> dict[str, float]:
    """Documents per second of wall time for 1, 2 and 4 ranks that extract and filter at once."""
    found = {}
    for ranks in (1, 2, 4):
        with ProcessPoolExecutor(ranks, mp_context=get_context("spawn")) as pool:
            list(pool.map(one_rank, [html[:2]] * ranks))  # imports and models
            best = 0.0
            for _ in range(rounds):
                begun = time.monotonic()
                done = sum(pool.map(one_rank, [html[rank::ranks] for rank in range(ranks)]))
                best = max(best, done / (time.monotonic() - begun))
        found[str(ranks)] = round(best, 1)
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every row that was asked for."""
    from llmhpc.filters.blocks.pages import decode
    from llmhpc.filters.blocks.resilient import main_text

    folder = options.labelled
    labelled = labelled_folder(folder) if folder else labelled_pages(options.pages)
    pages = pydoc_pages()
    html = [page.page for page in labelled] + [decode(p.body, p.content_type) for p in pages]
    texts = [text for page in html if len(text := main_text(page)) >= 200]
    if options.scale:
        return {"cores": os.cpu_count(), "documents/s by ranks": scale(html, options.rounds)}
    rounds = options.rounds
    parts: dict[str, Callable[[], list[Row]]] = {
        "reading": lambda: reading(pages, rounds),
        "extraction": lambda: extraction(html, labelled, rounds),
        "language": lambda: language(texts, rounds),
        "chain": lambda: [r for kind in ("web", "pydoc") for r in chain(texts, kind, rounds)],
        "tokenizing": lambda: tokenizing(texts, rounds),
    }
    rows = []
    for name, part in parts.items():
        if name in (options.parts or parts):
            print(f"{name} ...", file=sys.stderr, flush=True)
            rows += [asdict(row) for row in part()]
            print(
                "\n".join(f"  {r['what']} {r['ratio']}x" for r in rows), file=sys.stderr, flush=True
            )
    size = sum(map(len, html)) / 1e6
    return {"pages": len(html), "html_mb": round(size, 1), "texts": len(texts), "rows": rows}


def show(result: dict[str, Any]) -> None:
    """The table for people."""
    if "rows" not in result:
        print(result)
        return
    print(f"{result['pages']} pages, {result['html_mb']} MB of HTML, {result['texts']} texts")
    for row in result["rows"]:
        met = "met" if row["ratio"] >= row["goal"] else "NOT met"
        speed = f"{row['reference_per_s']:9.1f} -> {row['fast_per_s']:9.1f} docs/s"
        spread = f"({row['least']:.2f}-{row['greatest']:.2f})"
        print(
            f"{row['what']:38} {row['ratio']:6.2f}x {spread:14} {speed}  goal {row['goal']:g}: {met}"
        )
        for name, value in row["agreement"].items():
            print(f"      {name}: {value}")
        print("      time: " + "; ".join(row["time_goes_to"])) if row["time_goes_to"] else None


def main() -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--scale", action="store_true", help="documents/s for 1, 2 and 4 ranks")
    parser.add_argument(
        "--labelled", type=Path, help="a folder of x.html with their main text in x.txt"
    )
    parser.add_argument("--pages", type=int, default=200, help="labelled pages to make")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="*", help="reading extraction language chain tokenizing")
    options = parser.parse_args()
    result = measure(options)
    print(json.dumps(result)) if options.json else show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
