"""The files of an evaluation: what is asked, a line for each score, and the items behind them."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SPLIT = "test"


def write_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the data folder of a task, one JSON line for each row."""
    folder.mkdir(parents=True)
    with (folder / f"{SPLIT}.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_scores(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write scores.jsonl; a standard error that one document alone cannot give is null."""
    with path.open("w") as file:
        for line in lines:
            finite = {
                key: None if isinstance(value, float) and math.isnan(value) else value
                for key, value in line.items()
            }
            file.write(json.dumps(finite) + "\n")


def write_items(path: Path, records: list[dict[str, Any]]) -> None:
    """Write items.parquet, one row for each checkpoint and item, in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("step", pa.int64()),
            ("tokens", pa.int64()),
            ("task", pa.string()),
            ("item", pa.string()),
            ("document", pa.string()),
            ("gold", pa.int32()),  # null for texts that are only measured
            ("logprobs", pa.list_(pa.float64())),  # nats; one for each choice, as the next four
            ("unconditioned", pa.list_(pa.float64())),  # the same without the context, or empty
            ("characters", pa.list_(pa.int32())),
            ("bytes", pa.list_(pa.int32())),
            ("tokens_scored", pa.list_(pa.int32())),
            ("truncated", pa.int32()),  # tokens that the context lost to fit in the model
            ("prediction", pa.int32()),
            ("correct", pa.bool_()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(records, schema=schema), path)
