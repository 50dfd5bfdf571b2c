"""Parquet files: one document a row. A row group that cannot be read costs itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhpc.errors import StageError
from llmhpc.sources import Reading, Text, deal
from llmhpc.sources.files import Files, find
from llmhpc.sources.records import Fields, texts_of_records

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS_AT_ONCE = 256


@dataclass(kw_only=True, slots=True)
class Config(Files):
    """Which files, and what their columns are called."""

    kind: str = "parquet"
    text_field: str = "text"
    id_field: str = "id"  # a row without one gets the hash of its text

    def has_text(self) -> bool:
        """Always."""
        return True


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The documents of one rank's files; of a row, ``offset`` is its number in the file."""
    files = deal(find(cfg.paths), reading, "files")
    fields = Fields(text=cfg.text_field, id=cfg.id_field)
    yield from texts_of_records(_rows(files, cfg.max_bytes(), reading), fields, reading)


def _rows(files: list[str], max_bytes: int, reading: Reading) -> Iterator[tuple[str, int, Any]]:
    """(file, number of the row, row). Raises StageError for a file without a readable footer: nothing of it is known."""
    import fsspec
    import pyarrow
    from pyarrow.parquet import ParquetFile

    for number, address in enumerate(files):
        fs, path = fsspec.core.url_to_fs(address)
        with fs.open(path, "rb") as file:
            try:
                table = ParquetFile(file, page_checksum_verification=True)
            except pyarrow.ArrowInvalid as error:
                raise StageError(
                    f"{address}: no Parquet file, or its end is lost ({error})"
                ) from None
            first = 0
            for group in range(table.num_row_groups):
                reading.progress(number + group / table.num_row_groups, len(files), "files")
                for row, values in _group(table, group, first, address, reading):
                    if sum(len(v) for v in values.values() if isinstance(v, str)) > max_bytes:
                        reading.skip("larger than max_record_mb", address, row)
                    else:
                        yield address, row, values
                first += table.metadata.row_group(group).num_rows


def _group(
    table: "ParquetFile", group: int, first: int, address: str, reading: Reading
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number in the file, values) of the rows of a row group up to where it is damaged."""
    import pyarrow

    row = first
    try:
        for batch in table.iter_batches(batch_size=ROWS_AT_ONCE, row_groups=[group]):
            for values in batch.to_pylist():
                yield row, values
                row += 1
    except (pyarrow.ArrowException, OSError):
        reading.skip("damaged row group", address, row)
