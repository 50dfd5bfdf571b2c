"""A record of a data set as a document: which field is the text, which the id; the rest is kept as it is.

The same as datatrove's readers do: a field ``metadata`` that is a table is opened, other fields go beside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmhpc.errors import StageError
from llmhpc.sources import Reading, Text, digest

OURS = {
    "source",
    "source_offset",
}  # where a document was found; what a data set calls so is renamed
LOOKED_AT = 100  # records at the start of a rank: if none has the text field, its name is wrong


@dataclass(kw_only=True, slots=True)
class Fields:
    """The names of what a document needs."""

    text: str
    id: str


def texts_of_records(
    records: Iterator[tuple[str, int, Any]], fields: Fields, reading: Reading
) -> Iterator[Text]:
    """The documents of (file, offset, record). Raises StageError if the first records have no such text field."""
    without = 0
    for number, (file, offset, record) in enumerate(records, 1):
        text = record.get(fields.text) if isinstance(record, dict) else None
        if isinstance(text, str) and text.strip():
            yield _text(record, text, fields, file, offset)
            continue
        reason = "no text" if isinstance(text, str) else f"no field {fields.text}"
        reading.skip(reason, file, offset)
        without += not isinstance(text, str)
        if without == LOOKED_AT == number:
            names = ", ".join(sorted(map(str, record))) if isinstance(record, dict) else "no fields"
            raise StageError(
                f"source.text_field={fields.text}: not in the first {number} records, which have {names}"
            )


def _text(record: dict[str, Any], text: str, fields: Fields, file: str, offset: int) -> Text:
    rest = {k: v for k, v in record.items() if k not in (fields.text, fields.id, "metadata")}
    metadata = record.get("metadata")
    inside = metadata if isinstance(metadata, dict) else {"metadata": metadata} if metadata else {}
    identity = record.get(fields.id)
    return Text(
        id=digest(text) if identity in (None, "") else str(identity),
        text=text,
        file=file,
        offset=offset,
        metadata={f"original_{k}" if k in OURS else k: v for k, v in (inside | rest).items()},
    )
