"""Files of JSON lines, plain, .gz, .zst or .bz2: one document a line."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmhpc.sources import Reading, Text, deal
from llmhpc.sources.files import Files, find
from llmhpc.sources.lines import codec_of, lines
from llmhpc.sources.records import Fields, texts_of_records


@dataclass(kw_only=True, slots=True)
class Config(Files):
    """Which files, and what their fields are called."""

    kind: str = "jsonl"
    text_field: str = "text"
    id_field: str = "id"  # a record without one gets the hash of its text

    def has_text(self) -> bool:
        """Always."""
        return True


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The documents of one rank's files. Raises StageError if an address has no file."""
    files = deal(find(cfg.paths), reading, "files")
    records = read_records(files, cfg.max_bytes(), reading)
    yield from texts_of_records(records, Fields(text=cfg.text_field, id=cfg.id_field), reading)


def read_records(
    files: list[str], max_bytes: int, reading: Reading
) -> Iterator[tuple[str, int, Any]]:
    """(file, offset, value) of every line; one that is damaged or no JSON costs itself."""
    import fsspec
    import orjson

    for number, address in enumerate(files):
        fs, path = fsspec.core.url_to_fs(address)
        total = fs.size(path) or 1

        def skip(reason: str, offset: int, address: str = address) -> None:
            reading.skip(reason, address, offset)

        with fs.open(path, "rb") as file:
            for offset, line in lines(file, codec_of(path), skip, max_bytes):
                reading.progress(number + file.tell() / total, len(files), "files")
                if not line.strip():
                    continue
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError:
                    skip("not JSON", offset)
                    continue
                yield address, offset, value
