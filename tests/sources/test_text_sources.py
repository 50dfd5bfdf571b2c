"""Documents that are text already: JSON lines, Parquet, data sets, WET; damage costs what it touches."""

import bz2
import gzip
import io
import json
import random

import orjson
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from datatrove.pipeline.readers import JsonlReader, ParquetReader

from llmhpc.errors import ConfigError, StageError
from llmhpc.jobs import collect, shuffle
from llmhpc.jobs import filter as refine
from llmhpc.sources import Reading, commoncrawl, hub, jsonl, parquet, texts_of, warc
from llmhpc.sources.lines import CODECS, PIECE_BYTES, codec_of, inflated, lines

DUMP = "CC-MAIN-2024-10"


def rows(count, start=0):
    return [
        {
            "text": f"Document {n}: {random.Random(n).randbytes(200).hex(' ', 4)}",
            "id": f"doc-{n}",
            "url": f"https://example.org/{n}",
            "metadata": {"language": "en"},
        }
        for n in range(start, start + count)
    ]


def as_lines(records):
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    ".bz2": bz2.compress,
}


def read(cfg, rank=0, ranks=1):
    notes = []
    reading = Reading(rank=rank, ranks=ranks, note=notes.append)
    return list(texts_of(cfg, reading)), reading.skipped, notes


@pytest.mark.parametrize("suffix", PACK)
def test_json_lines_give_the_documents_that_datatrove_reads(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACK[suffix](as_lines(rows(30))))
    found, skipped, _ = read(jsonl.Config(paths=[str(path)]))
    assert not skipped and len(found) == 30
    if suffix != ".bz2":  # datatrove does not know it
        theirs = list(JsonlReader(str(tmp_path), add_file_path=False).run())
        assert [(t.id, t.text, t.metadata) for t in found] == [
            (d.id, d.text, d.metadata) for d in theirs
        ]


def test_what_a_data_set_says_of_its_own_source_is_kept_under_another_name(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_lines([{"text": "A text.", "id": 7, "source": "a forum"}]))
    (text,), _, _ = read(jsonl.Config(paths=[str(path)]))
    assert text.document() == {
        "text": "A text.",
        "id": "7",
        "metadata": {"original_source": "a forum", "source": str(path), "source_offset": 0},
    }


@pytest.mark.parametrize("suffix", CODECS)
def test_damage_in_one_part_of_a_compressed_file_costs_that_part_alone(tmp_path, suffix):
    parts = [PACK[suffix](as_lines(rows(20, start))) for start in range(0, 200, 20)]
    damaged = bytearray(b"".join(parts))
    middle = sum(map(len, parts[:4])) + len(parts[4]) // 2
    damaged[middle : middle + 30] = random.Random(1).randbytes(30)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(damaged)
    found, skipped, notes = read(jsonl.Config(paths=[str(path)]))
    numbers = {int(text.id.removeprefix("doc-")) for text in found}
    assert set(range(80)) | set(range(101, 200)) <= numbers
    whole = {row["id"]: row["text"] for row in rows(200)}
    assert all(text.text == whole[text.id] for text in found if not 80 <= int(text.id[4:]) < 100)
    assert skipped[f"damaged {CODECS[suffix].name} stream"] >= 1
    assert notes[0]["source"] == str(path) and notes[0]["source_offset"] > 0


@pytest.mark.parametrize("suffix", CODECS)
def test_a_file_that_is_cut_short_gives_the_lines_before_its_end(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    body = b"".join(PACK[suffix](as_lines(rows(20, start))) for start in (0, 20))
    path.write_bytes(body[:-40])
    found, skipped, _ = read(jsonl.Config(paths=[str(path)]))
    assert len(found) >= 20
    assert skipped[f"truncated {CODECS[suffix].name} stream"] == 1


def test_a_bad_line_costs_itself_and_its_place_is_kept(tmp_path):
    good = as_lines(rows(1))
    bad = [b'{"text": "cut', b"\xff\xfe\xff", b'{"id": "no text"}', b'{"text": " "}', b"[1]"]
    path = tmp_path / "a.jsonl"
    path.write_bytes(good + b"\n".join(bad) + b"\n\n" + as_lines(rows(1, 1)))
    found, skipped, notes = read(jsonl.Config(paths=[str(path)]))
    assert [text.id for text in found] == ["doc-0", "doc-1"]
    assert skipped == {"not JSON": 2, "no field text": 2, "no text": 1}
    assert notes[0]["source_offset"] == len(good)
    body = path.read_bytes()
    assert [body[text.offset :].startswith(b'{"text":"Doc') for text in found] == [True, True]


@pytest.mark.parametrize("suffix", PACK)
def test_a_line_that_inflates_beyond_the_bound_is_passed_over(suffix):
    small = as_lines(rows(1))
    file = io.BytesIO(PACK[suffix](small + b" " * 30_000_000 + b"\n" + small))
    skipped = []
    found = list(lines(file, codec_of(f"a{suffix}"), lambda *why: skipped.append(why), 100_000))
    assert [line + b"\n" for _, line in found] == [small, small]
    assert skipped == [("larger than max_record_mb", len(small))]


@pytest.mark.parametrize("suffix", CODECS)
def test_a_bomb_is_given_out_in_pieces_that_fit_the_memory(suffix):
    stream, codec = io.BytesIO(PACK[suffix](bytes(80_000_000))), codec_of(f"a{suffix}")
    pieces = [len(piece) for piece in inflated(stream, codec)]
    assert sum(pieces) == 80_000_000 and max(pieces) <= 1.1 * PIECE_BYTES


def test_a_wrong_text_field_is_answered_with_those_that_are_there(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_lines(rows(120)))
    with pytest.raises(StageError, match="source.text_field=body: not in the first 100.*text, url"):
        read(jsonl.Config(paths=[str(path)], text_field="body"))


def test_parquet_gives_the_documents_that_datatrove_reads(tmp_path):
    table = pyarrow.Table.from_pylist(rows(30))
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    found, skipped, _ = read(parquet.Config(paths=[str(tmp_path / "*.parquet")]))
    theirs = ParquetReader(str(tmp_path), read_metadata=True).run()
    expected = [(d.id, d.text, d.metadata | {"file_path": ""}) for d in theirs]
    assert [(t.id, t.text, t.metadata | {"file_path": ""}) for t in found] == expected
    assert [t.offset for t in found] == list(range(30)) and not skipped


def test_a_damaged_row_group_costs_itself(tmp_path):
    path = tmp_path / "a.parquet"
    table = pyarrow.Table.from_pylist(rows(40))
    pyarrow.parquet.write_table(table, path, row_group_size=10, write_page_checksum=True)
    meta = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0)
    damaged = bytearray(path.read_bytes())
    middle = meta.dictionary_page_offset + meta.total_compressed_size // 2
    damaged[middle : middle + 40] = random.Random(2).randbytes(40)
    path.write_bytes(damaged)
    found, skipped, notes = read(parquet.Config(paths=[str(path)]))
    assert [t.offset for t in found] == [*range(10), *range(20, 40)]
    assert skipped == {"damaged row group": 1} and notes[0]["source_offset"] == 10
    path.write_bytes(damaged[:-20])
    with pytest.raises(StageError, match="no Parquet file, or its end is lost"):
        read(parquet.Config(paths=[str(path)]))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_data_set_in_a_folder_is_shared_out_without_loss(tmp_path, monkeypatch, ranks):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(2):
        body = as_lines(rows(10, 10 * number))
        (folder / f"train-{number:05d}.jsonl").write_bytes(body)
    cfg = hub.Config(name=str(folder))
    cfg.before_launch(ranks)
    shares = [[t.id for t in read(cfg, rank, ranks)[0]] for rank in range(ranks)]
    assert sorted(name for share in shares for name in share) == sorted(
        f"doc-{n}" for n in range(20)
    )
    assert shares == [[t.id for t in read(cfg, rank, ranks)[0]] for rank in range(ranks)]


def test_the_hub_is_refused_offline_and_without_a_commit(monkeypatch):
    cfg = hub.Config(name="some/set")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="source.name=some/set: no such folder, and HF_HUB_OFF"):
        cfg.before_launch(1)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(ConfigError, match="source.revision=not set: the commit of some/set"):
        cfg.before_launch(1)


def write_wet(path, numbers):
    from warcio.warcwriter import WARCWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        writer.write_record(writer.create_warcinfo_record(path.name, {"software": "a test"}))
        for n in numbers:
            record = writer.create_warc_record(
                f"https://example.org/{n}",
                "conversion",
                payload=io.BytesIO(rows(1, n)[0]["text"].encode()),
                warc_content_type="text/plain",
                warc_headers_dict={
                    "WARC-Date": "2024-03-01T12:00:00Z",
                    "WARC-Identified-Content-Language": "eng",
                },
            )
            writer.write_record(record)


def test_wet_files_of_a_dump_give_their_texts(tmp_path):
    names = [f"crawl-data/{DUMP}/wet/{n}.warc.wet.gz" for n in range(2)]
    for number, name in enumerate(names):
        write_wet(tmp_path / name, range(3 * number, 3 * number + 3))
    listing = tmp_path / "crawl-data" / DUMP / "wet.paths.gz"
    listing.write_bytes(gzip.compress("\n".join(names).encode()))
    dump = commoncrawl.Config(dump=DUMP, base=str(tmp_path), format=warc.Format.wet)
    assert dump.has_text()
    found, skipped, _ = read(dump, 1, 2)
    assert [text.text for text in found] == [rows(1, n)[0]["text"] for n in (3, 4, 5)]
    assert found[0].metadata["url"] == "https://example.org/3"
    assert found[0].metadata["languages"] == "eng" and skipped == {"warcinfo record": 1}
    files = warc.Config(paths=[str(tmp_path / "**" / "1.warc.wet.gz")], format=warc.Format.wet)
    assert [text.text for text in read(files)[0]] == [text.text for text in found]


@pytest.fixture
def folder(tmp_path, prose):
    (tmp_path / "in").mkdir()
    for number in range(3):
        body = as_lines(prose(20, seed=number))
        (tmp_path / "in" / f"{number}.jsonl.gz").write_bytes(gzip.compress(body + b"{\n"))
    return tmp_path / "in"


def test_texts_need_no_extraction_on_their_way_to_the_filter_and_the_shuffle(
    tmp_path, folder, run_stage, read_documents
):
    source = jsonl.Config(paths=[str(folder / "*.jsonl.gz")])
    collected = tmp_path / "collect"
    counts = run_stage(collect.Config(source=source), {}, collected)
    assert counts["documents"] == 60 and counts["skipped"] == {"not JSON": 3}
    places = read_documents(collected, "skipped")
    assert [place["reason"] for place in places] == ["not JSON"] * 3
    kept = run_stage(refine.Config(), {"pages": collected}, tmp_path / "filter")
    assert kept["documents_in"] == kept["documents"] == 60 and "extract" not in kept
    assert kept["bytes_in"] == counts["text_bytes"]
    before, behind = (read_documents(tmp_path / name) for name in ("collect", "filter"))
    assert [(d["id"], d["text"]) for d in before] == [(d["id"], d["text"]) for d in behind]
    run_stage(shuffle.Config(), {"documents": collected}, tmp_path / "shuffle")
    shuffled = read_documents(tmp_path / "shuffle")
    assert sorted(map(json.dumps, shuffled)) == sorted(map(json.dumps, before))


def test_texts_are_the_same_bytes_in_whatever_order_the_ranks_run(
    tmp_path, folder, run_stage, files_of
):
    cfg = collect.Config(source=jsonl.Config(paths=[str(folder / "*")]), ranks=3)
    run_stage(cfg, {}, tmp_path / "a")
    run_stage(cfg, {}, tmp_path / "b", backwards=True)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_more_ranks_than_files_of_documents_is_refused(tmp_path, folder, run_stage):
    source = jsonl.Config(paths=[str(folder / "*")])
    run_stage(collect.Config(source=source), {}, tmp_path / "collect")
    with pytest.raises(ConfigError, match="ranks=2: only 1 files"):
        run_stage(refine.Config(ranks=2), {"pages": tmp_path / "collect"}, tmp_path / "filter")
