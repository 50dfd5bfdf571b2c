"""Whatever happens to a file, what was not touched is read, as it was, and what was lost is counted."""

import gzip
import io
import itertools
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from llmhpc.sources import (
    Reading,
    jsonl,
    members,
    pages_of,
    texts_of,
    uncompressed,
    warc,
    warc_records,
)

RECORDS = 12
PROPERTY = settings(max_examples=120, deadline=None, derandomize=True)


def body_of(number: int) -> bytes:
    return b"<p>%d: " % number + bytes((n * n * number) % 251 for n in range(900)) + b"</p>"


def crawl(*, gzip: bool = True) -> tuple[bytes, list[int]]:
    """(the bytes of a WARC file, where each record begins, and where the last one ends)."""
    file, begins = io.BytesIO(), []
    writer = WARCWriter(file, gzip=gzip)
    for number in range(RECORDS):
        begins.append(file.tell())
        http = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
        record = writer.create_warc_record(
            f"https://example.org/{number}", "response", io.BytesIO(body_of(number)), http_headers=http,
            warc_headers_dict={"WARC-Date": "2024-03-01T12:00:00Z", "WARC-Record-ID": f"<urn:{number}>"},
        )  # fmt: skip
        writer.write_record(record)
    return file.getvalue(), [*begins, file.tell()]


WHOLE, BEGINS = crawl()
DAMAGE = st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=60))


@PROPERTY
@given(st.lists(DAMAGE, max_size=3), st.none() | st.integers(0, len(WHOLE)))
def test_damage_and_truncation_cost_the_records_they_touch(damages, length):
    damaged = bytearray(WHOLE)
    for start, new in damages:
        damaged[start : start + len(new)] = new[: len(WHOLE) - start]
    del damaged[length if length is not None else len(damaged) :]
    spans = list(itertools.pairwise(BEGINS))
    untouched = {
        n for n, (start, end) in enumerate(spans) if damaged[start:end] == WHOLE[start:end]
    }
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.warc.gz"
        path.write_bytes(damaged)
        reading = Reading(rank=0, ranks=1)
        pages = {
            int(p.url.rsplit("/", 1)[1]): p
            for p in pages_of(warc.Config(paths=[str(path)]), reading)
        }
    assert untouched <= set(pages)
    assert all(page.body == body_of(number) for number, page in pages.items())
    lost = set(range(RECORDS)) - set(pages)
    cut = {number for number in lost if BEGINS[number] >= len(damaged)}  # nobody can know of them
    assert reading.skipped or lost == cut


PLAIN, PLAIN_BEGINS = crawl(gzip=False)
PLAIN_DAMAGE = st.tuples(
    st.integers(0, len(PLAIN) - 1), st.binary(min_size=1, max_size=60) | st.just(b"9" * 5)
)


@PROPERTY
@given(
    st.lists(PLAIN_DAMAGE, max_size=3),
    st.none() | st.integers(0, len(PLAIN)),
    st.sampled_from([1, 100, 1 << 20]),
)
def test_damage_costs_the_records_it_touches_where_nothing_is_compressed(damages, length, block):
    damaged = bytearray(PLAIN)
    for start, new in damages:
        damaged[start : start + len(new)] = new[: len(PLAIN) - start]
    del damaged[length if length is not None else len(damaged) :]
    spans = list(itertools.pairwise(PLAIN_BEGINS))
    untouched = {
        (start, PLAIN[start:end]) for start, end in spans if damaged[start:end] == PLAIN[start:end]
    }
    skipped: list[tuple[str, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncompressed, "BLOCK_BYTES", block)
        patch.setattr(uncompressed, "HEAD_BYTES", 500)
        found = list(
            uncompressed.uncompressed(io.BytesIO(damaged), lambda *lost: skipped.append(lost), 5000)
        )
    assert untouched <= set(found)
    assert all(damaged.startswith(raw, offset) for offset, raw in found)
    covered = sorted([*(offset for offset, _ in found), *(offset for _, offset in skipped)])
    assert covered == sorted(set(covered)) and (covered[:1] == [0] or not damaged)


@pytest.mark.parametrize("off", [-100, -1, 1, 40])
def test_a_wrong_length_costs_its_own_record_where_nothing_is_compressed(off):
    start, end = PLAIN_BEGINS[3:5]
    right = re.search(rb"\r\nContent-Length: (\d+)", PLAIN[start:end])
    length = str(int(right[1]) + off).encode()
    assert len(length) == len(right[1])
    at = start + right.start(1)
    damaged = PLAIN[:at] + length + PLAIN[at + len(length) :]
    skipped: list[tuple[str, int]] = []
    found = uncompressed.uncompressed(
        io.BytesIO(damaged), lambda *lost: skipped.append(lost), 10_000
    )
    assert [offset for offset, _ in found] == [n for n in PLAIN_BEGINS[:-1] if n != start]
    assert skipped == [("wrong WARC length", start)]


def test_a_file_that_is_not_compressed_gives_the_pages_of_the_compressed_one(tmp_path):
    (tmp_path / "a.warc").write_bytes(PLAIN)
    (tmp_path / "b.warc.gz").write_bytes(WHOLE)
    plain, packed = (
        list(pages_of(warc.Config(paths=[str(tmp_path / name)]), Reading(rank=0, ranks=1)))
        for name in ("a.warc", "b.warc.gz")
    )
    assert [p.offset for p in plain] == PLAIN_BEGINS[:-1] and len(packed) == RECORDS
    assert [(p.url, p.body, p.date) for p in plain] == [(p.url, p.body, p.date) for p in packed]


PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([members.MAGIC, members.SIMPLE, bytes(9)]),
    st.integers(0, RECORDS - 1).map(lambda n: WHOLE[BEGINS[n] : BEGINS[n + 1]]),
    st.integers(0, RECORDS - 1).map(lambda n: WHOLE[BEGINS[n + 1] - 8 : BEGINS[n + 1]]),
)
PLACES = st.integers(0, len(WHOLE)) | st.sampled_from(BEGINS)
CHANGES = st.lists(st.tuples(PLACES, st.integers(0, 40), PIECES), max_size=4)


def _members(data: bytes, bound: int) -> tuple[list[tuple[int, bytes]], list[tuple[str, int]]]:
    skipped: list[tuple[str, int]] = []

    def skip(reason: str, offset: int) -> None:
        skipped.append((reason, offset))

    found = members.members(io.BytesIO(data), skip, bound)
    return [(offset, bytes(raw)) for offset, raw in found], skipped


@PROPERTY
@given(CHANGES, st.sampled_from([100, 1000, 1 << 20]), st.sampled_from([500, 10_000]))
def test_members_inflated_at_once_are_those_that_are_inflated_step_by_step(changes, block, bound):
    data = bytearray(WHOLE)
    for place, length, new in changes:
        data[place : place + length] = new
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(members, "BLOCK_BYTES", block)
        at_once = _members(bytes(data), bound)
        patch.setattr(members, "SIMPLE", b"no member begins so")
        assert at_once == _members(bytes(data), bound)


RECORD = gzip.decompress(WHOLE[BEGINS[1] : BEGINS[2]])
HEAD = RECORD.index(b"<p>")
WORDS = st.sampled_from(
    [
        b" ",
        b":",
        b": ",
        b"\r\n",
        b"\n",
        b"\t",
        b"\r\n\r\n",
        b"\x80",
        b"\0",
        b"1",
        b"\r\nWARC-Type: x",
    ]
)
EDITS = st.lists(st.tuples(st.integers(0, HEAD), st.integers(0, 2), WORDS), min_size=1, max_size=3)


@PROPERTY
@given(EDITS)
def test_what_is_cut_at_its_headers_is_what_warcio_reads(edits):
    raw = bytearray(RECORD)
    for place, length, new in edits:
        raw[place : place + length] = new
    cut = warc_records.plain(raw)
    assert cut is None or [cut] == list(warc_records.any_record(raw, 10_000))


LINES = st.one_of(
    st.text(min_size=1).filter(str.strip).map(lambda text: {"text": text}),
    st.sampled_from([b"", b"  ", b"{", b"[1]", b"null", b'{"text": 1}', b'{"text": ""}', b"\xff\xfe"]),
)  # fmt: skip
PACK = {
    "jsonl": bytes,
    "jsonl.gz": gzip.compress,
    "jsonl.zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@PROPERTY
@given(
    st.lists(LINES, max_size=40), st.sampled_from(sorted(PACK)), st.booleans(), st.integers(1, 3)
)
def test_every_document_of_a_file_of_lines_is_read_and_every_other_line_counted(
    given_lines, kind, ends_in_newline, ranks
):
    raw = [line if isinstance(line, bytes) else orjson.dumps(line) for line in given_lines]
    data = b"\n".join(raw) + b"\n" * ends_in_newline
    with TemporaryDirectory() as folder:
        for number in range(ranks):
            (Path(folder) / f"{number}.{kind}").write_bytes(PACK[kind](data))
        cfg = jsonl.Config(paths=[f"{folder}/*.{kind}"])
        for rank in range(ranks):
            notes: list[dict] = []
            reading = Reading(rank=rank, ranks=ranks, note=notes.append)
            found = [text.text for text in texts_of(cfg, reading)]
            assert found == [line["text"] for line in given_lines if isinstance(line, dict)]
            bad = [line for line in raw if line.strip() and not _is_document(line)]
            assert sum(reading.skipped.values()) == len(notes) == len(bad)


def _is_document(line: bytes) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return (
        isinstance(record, dict)
        and isinstance(record.get("text"), str)
        and bool(record["text"].strip())
    )
