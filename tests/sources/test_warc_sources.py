"""WARC files, damaged or whole, and dumps laid out as Common Crawl's, from a folder and over HTTP."""

import gzip
import io
import random
import threading
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from llmhpc.errors import ConfigError, StageError
from llmhpc.jobs import collect
from llmhpc.sources import Reading, commoncrawl, html, pages_of, warc, warc_records
from llmhpc.sources.members import members
from llmhpc.task import Task

DUMP = "CC-MAIN-2024-10"


def body_of(number):
    words = random.Random(number).choices(["alpha", "beta", "gamma", "delta", "epsilon"], k=120)
    return f"<html><body><p>Page {number}: {' '.join(words)}</p></body></html>".encode()


def write_warc(path, numbers, status="200 OK", kind="text/html"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for number in numbers:
            record = writer.create_warc_record(
                f"https://example.org/{number}",
                "response",
                payload=io.BytesIO(body_of(number)),
                http_headers=StatusAndHeaders(
                    status, [("Content-Type", kind)], protocol="HTTP/1.1"
                ),
                warc_headers_dict={"WARC-Date": "2024-03-01T12:00:00Z"},
            )
            writer.write_record(record)
    return path


def read(cfg, rank=0, ranks=1):
    reading = Reading(rank=rank, ranks=ranks)
    return list(pages_of(cfg, reading)), reading.skipped


def numbers_of(pages):
    return [int(page.url.rsplit("/", 1)[1]) for page in pages]


def collect_into(home, source, ranks=2):
    home.mkdir()
    cfg = collect.Config(ranks=ranks, source=source)
    for rank in range(ranks):
        collect.run(cfg, {}, home, Task(phase="main", rank=rank, ranks=ranks, seed=0, home=home))
    return {path.name: path.read_bytes() for path in sorted((home / "warc").iterdir())}


def test_fifty_damaged_bytes_cost_at_most_two_of_five_hundred_records(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", range(500))
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 50] = random.Random(3).randbytes(50)
    path.write_bytes(damaged)
    pages, skipped = read(warc.Config(paths=[str(path)]))
    assert len(pages) >= 498
    assert all(page.body == body_of(n) for page, n in zip(pages, numbers_of(pages), strict=True))
    assert skipped["damaged gzip member"] >= 1


def test_a_truncated_file_gives_every_record_before_its_end(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", range(20))
    path.write_bytes(path.read_bytes()[:-40])
    pages, skipped = read(warc.Config(paths=[str(path)]))
    assert numbers_of(pages) == list(range(19))
    assert skipped["truncated gzip member"] >= 1


def test_bytes_that_look_like_a_member_cost_nothing_of_the_real_one_behind_them():
    real, skipped = gzip.compress(b"a record"), []
    file = io.BytesIO(b"\x1f\x8b\x08" + b"junk" + real)
    found = list(members(file, lambda reason, offset: skipped.append(offset), max_bytes=1000))
    assert found == [(7, b"a record")] and skipped == [0]


def test_junk_behind_a_member_is_counted_even_if_a_copy_of_the_member_follows():
    copy, skipped = gzip.compress(b"a record", mtime=0), []
    file = io.BytesIO(copy + b"junk" + copy + copy)
    found = list(members(file, lambda *what: skipped.append(what), max_bytes=1000))
    second = len(copy) + 4
    assert found == [(at, b"a record") for at in (0, second, second + len(copy))]
    assert skipped == [("no gzip member", len(copy))]


def test_only_the_last_of_sound_members_is_inflated_step_by_step(tmp_path, monkeypatch):
    from llmhpc.sources import members as module

    steps, inflate = [], module._inflate

    def counted(window, start, skip, max_bytes):
        steps.append(start)
        return inflate(window, start, skip, max_bytes)

    monkeypatch.setattr(module, "_inflate", counted)
    path = write_warc(tmp_path / "a.warc.gz", range(20))
    pages, skipped = read(warc.Config(paths=[str(path)]))
    assert numbers_of(pages) == list(range(20)) and not skipped
    assert steps == [pages[-1].offset]


def test_a_record_that_inflates_beyond_the_bound_is_passed_over_and_counted():
    bomb, small = gzip.compress(bytes(10_000_000)), gzip.compress(b"small")
    skipped = []

    def skip(reason, offset):
        skipped.append((reason, offset))

    found = list(members(io.BytesIO(small + bomb + small), skip, max_bytes=100_000))
    assert [inflated for _, inflated in found] == [b"small", b"small"]
    assert skipped == [("larger than max_record_mb", len(small))]


def test_a_body_that_its_encoding_inflates_beyond_the_bound_is_passed_over(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", range(2))
    bomb = io.BytesIO(gzip.compress(bytes(10_000_000)))
    headers = [("Content-Type", "text/html"), ("Content-Encoding", "gzip")]
    with path.open("ab") as file:
        writer = WARCWriter(file, gzip=True)
        http = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
        place = file.tell()
        record = writer.create_warc_record(
            "http://x/1", "response", payload=bomb, http_headers=http
        )
        writer.write_record(record)
    notes = []
    reading = Reading(rank=0, ranks=1, note=notes.append)
    cfg = warc.Config(paths=[str(path)], max_record_mb=0.1)
    assert numbers_of(pages_of(cfg, reading)) == [0, 1]
    reason = "larger than max_record_mb"
    assert notes == [{"reason": reason, "source": str(path), "source_offset": place}]
    assert reading.skipped == {reason: 1}


def test_a_page_knows_the_byte_at_which_its_record_begins(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", range(5))
    pages, _ = read(warc.Config(paths=[str(path)]))
    for page in pages:
        record = zlib.decompressobj(31).decompress(path.read_bytes()[page.offset :])
        assert page.url.encode() in record and page.file == str(path)


def test_only_html_that_was_served_is_taken_and_the_rest_is_counted_by_reason(tmp_path):
    write_warc(tmp_path / "good.warc.gz", range(3))
    write_warc(tmp_path / "gone.warc.gz", range(10, 12), status="404 Not Found")
    write_warc(tmp_path / "image.warc.gz", range(20, 24), kind="image/png")
    pages, skipped = read(warc.Config(paths=[str(tmp_path / "*.warc.gz")]))
    assert numbers_of(pages) == [0, 1, 2]
    assert skipped == {"HTTP status 404": 2, "not HTML": 4}


def test_a_path_that_is_not_there_is_named_before_the_launch():
    with pytest.raises(ConfigError, match=r"source.paths=/no/such.warc.gz: no such file"):
        warc.Config(paths=["/no/such.warc.gz"]).before_launch(1)
    with pytest.raises(ConfigError, match=r"source.paths=\[\]: one path"):
        warc.Config().before_launch(1)


def test_more_ranks_than_files_is_refused_with_the_number_that_is_right(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", range(2))
    with pytest.raises(ConfigError, match="ranks=3: there are only 1 files"):
        warc.Config(paths=[str(path)]).before_launch(3)


def test_a_rank_without_a_usable_page_fails_and_says_what_it_passed_over(tmp_path):
    path = write_warc(tmp_path / "a.warc.gz", range(2), status="500 Oops")
    with pytest.raises(StageError, match="no usable page in rank 0.*HTTP status 500"):
        collect_into(tmp_path / "out", warc.Config(paths=[str(path)]), ranks=1)


def test_collecting_twice_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_warc(tmp_path / "in" / f"{name}.warc.gz", range(ord(name), ord(name) + 5))
    source = warc.Config(paths=[str(tmp_path / "in" / "*.warc.gz")])
    assert collect_into(tmp_path / "one", source) == collect_into(tmp_path / "two", source)


@pytest.fixture
def dump(tmp_path):
    base = tmp_path / "dump"
    names = [f"crawl-data/{DUMP}/segments/1/warc/{n:05d}.warc.gz" for n in range(4)]
    for number, name in enumerate(names):
        write_warc(base / name, range(10 * number, 10 * number + 3))
    listing = base / "crawl-data" / DUMP / "warc.paths.gz"
    listing.write_bytes(gzip.compress("\n".join(names).encode()))
    return base


@pytest.fixture
def served(dump):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(dump)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_dump_in_a_folder_is_dealt_to_the_ranks_without_loss(dump):
    cfg = commoncrawl.Config(dump=DUMP, base=str(dump))
    shares = [numbers_of(read(cfg, rank, 2)[0]) for rank in range(2)]
    assert shares == [[0, 1, 2, 20, 21, 22], [10, 11, 12, 30, 31, 32]]


def test_a_dump_over_http_gives_the_same_pages_as_from_its_folder(dump, served):
    near, _ = read(commoncrawl.Config(dump=DUMP, base=str(dump)))
    far, _ = read(commoncrawl.Config(dump=DUMP, base=served))
    assert [(p.url, p.body, p.offset) for p in far] == [(p.url, p.body, p.offset) for p in near]


def test_files_limits_a_dump_to_its_first_ones(dump):
    pages, _ = read(commoncrawl.Config(dump=DUMP, base=str(dump), files=2))
    assert numbers_of(pages) == [0, 1, 2, 10, 11, 12]


def test_a_dump_that_is_not_there_is_named(dump, served):
    with pytest.raises(ConfigError, match="source.dump=CC-MAIN-1999-01"):
        commoncrawl.Config(dump="CC-MAIN-1999-01", base=str(dump)).before_launch(1)
    with pytest.raises(StageError, match="source.dump=CC-MAIN-1999-01: no list of WARC files"):
        read(commoncrawl.Config(dump="CC-MAIN-1999-01", base=served))


def test_a_folder_of_html_files_keeps_their_names_in_the_addresses(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.html").write_bytes(body_of(1))
    (tmp_path / "b.htm").write_bytes(body_of(2))
    (tmp_path / "empty.html").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"no page")
    pages, skipped = read(html.Config(folder=str(tmp_path), base_url="https://example.org/"))
    assert [p.url for p in pages] == ["https://example.org/b.htm", "https://example.org/sub/a.html"]
    assert skipped == {"empty file": 1}
    with pytest.raises(ConfigError, match="source.folder=/no/such: no such folder"):
        html.Config(folder="/no/such").before_launch(1)


def member(headers, payload, kind="response", tail=b"\r\n\r\n", length=None):
    head = b"WARC/1.0\r\nWARC-Type: %s\r\n%s" % (kind.encode(), headers)
    size = len(payload) if length is None else length
    return head + b"Content-Length: %d\r\n\r\n" % size + payload + tail


ADDRESS = b"WARC-Target-URI: https://e.org/\r\nWARC-Date: 2024-03-01T12:00:00Z\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nX-Twice: 1\r\nx-twice: 2\r\n\r\n<p>body</p>"
PACKED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"<p>body</p>")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<p>b\r\n0\r\n\r\n"
RECORDS = {
    "plain": (member(ADDRESS, PLAIN), True),
    "request": (member(ADDRESS, b"GET / HTTP/1.1\r\n\r\n", kind="request"), True),
    "conversion": (member(ADDRESS, b"the text", kind="conversion"), True),
    "blanks in the body": (member(ADDRESS, PLAIN + b"\r\n\r\n more"), True),
    "empty body": (member(ADDRESS, PLAIN.replace(b"<p>body</p>", b"")), True),
    "packed": (member(ADDRESS, PACKED), False),
    "chunked": (member(ADDRESS, CHUNKED), False),
    "no reason": (member(ADDRESS, PLAIN.replace(b" OK", b"")), False),
    "not ASCII": (member(ADDRESS, PLAIN.replace(b"X-Twice: 1", "X: é".encode())), False),
    "folded": (member(ADDRESS, PLAIN.replace(b"X-Twice: 1", b"X: 1\r\n  2")), False),
    "blank behind a value": (member(ADDRESS, PLAIN.replace(b"X-Twice: 1", b"X: 1 ")), False),
    "not the web": (member(ADDRESS.replace(b"https", b"dns"), PLAIN), False),
    "a length that is too small": (member(ADDRESS, PLAIN, length=20), False),
    "a header without a value": (member(ADDRESS, PLAIN.replace(b": 1", b":")), False),
    "no blank behind the colon": (member(ADDRESS, PLAIN.replace(b": 1", b":1")), False),
    "two colons": (member(ADDRESS, PLAIN.replace(b"X-Twice: 1", b"X:a: 1")), False),
    "no end": (member(ADDRESS, PLAIN, tail=b""), False),
    "no headers": (member(ADDRESS, b"just text"), False),
}


BOUND = 10_000


def test_a_file_of_one_member_gives_all_its_records(tmp_path):
    path = tmp_path / "a.warc.gz"
    kinds = {
        "warcinfo": b"software: x\r\n",
        "request": b"GET / HTTP/1.1\r\n\r\n",
        "response": PLAIN,
    }
    path.write_bytes(gzip.compress(b"".join(member(ADDRESS, kinds[k], kind=k) for k in kinds) * 2))
    pages, skipped = read(warc.Config(paths=[str(path)]))
    assert [page.body for page in pages] == [b"<p>body</p>"] * 2
    assert skipped == {"warcinfo record": 2, "request record": 2}


def test_a_response_without_an_address_costs_itself(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(gzip.compress(member(h, PLAIN)) for h in (ADDRESS, b"", ADDRESS)))
    pages, skipped = read(warc.Config(paths=[str(path)]))
    assert len(pages) == 2 and skipped == {"bad WARC header": 1}


def test_plain_headers_are_a_mapping_of_names_in_lower_case():
    found = warc_records.plain(member(ADDRESS, PLAIN)).http
    assert dict(found) == {"content-type": "text/html", "x-twice": "1"} and len(found) == 2
    assert found["x-twice"] == "1" and found.get("age", "none") == "none" and "age" not in found


def read_all(how, raw):
    try:
        return list(how(raw, BOUND))
    except warc_records.BadRecord as error:
        return str(error)


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_is_the_same_cut_by_hand_as_by_warcio(case):
    raw, is_plain = RECORDS[case]
    quick = warc_records.plain(raw)
    assert (quick is not None) == is_plain
    if is_plain:
        assert [quick] == list(warc_records.any_record(raw, BOUND))
    else:
        assert read_all(warc_records.records, raw) == read_all(warc_records.any_record, raw)


def test_members_are_found_wherever_the_blocks_of_the_file_end(monkeypatch):
    from llmhpc.sources import members as module

    bodies = [random.Random(n).randbytes(n * 7) for n in range(60)]
    packed = [gzip.compress(body) for body in bodies]
    offsets = [sum(map(len, packed[:n])) for n in range(60)]
    for size in (1, 2, 3, 7, 50, 1000):
        monkeypatch.setattr(module, "BLOCK_BYTES", size)
        skipped: list[str] = []

        def skip(reason: str, offset: int, seen: list[str] = skipped) -> None:
            seen.append(reason)

        found = list(members(io.BytesIO(b"noise" + b"".join(packed)), skip, max_bytes=1000))
        assert found == [(5 + o, body) for o, body in zip(offsets, bodies, strict=True)]
        assert skipped == ["no gzip member"]
