"""A data set of the Hugging Face hub, by its name, or a folder of one; streamed, never downloaded as a whole."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Reading, Source, Text
from llmhpc.sources.files import MB
from llmhpc.sources.records import Fields, texts_of_records

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
YES = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads them


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """Which data set, which part of it."""

    kind: str = "hub"
    name: str = MISSING  # as in HuggingFaceFW/fineweb-edu, or a local folder of data files
    config: str | None = None  # its configuration, as in sample-10BT
    split: str = "train"
    revision: str = ""  # the commit, 40 hex digits: a branch would not give the same bytes again
    text_field: str = "text"
    id_field: str = "id"  # a record without one gets the hash of its text
    max_record_mb: float = 50.0  # a larger record is passed over

    def __post_init__(self) -> None:
        at_least(self, "max_record_mb", 0.001)

    def has_text(self) -> bool:
        """Always."""
        return True

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if the hub cannot be asked, or its data set is not fixed by a commit."""
        if Path(self.name).is_dir():
            return
        for variable in OFFLINE:
            if os.environ.get(variable, "").upper() in YES:
                raise ConfigError(
                    f"source.name={self.name}: no such folder, and {variable} is set; a folder, or unset it"
                )
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ConfigError(
                f"source.revision={self.revision or 'not set'}: the commit of {self.name}, 40 hex digits"
            )


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The documents of one rank: its files where they can be shared out, else every ``ranks``-th record."""
    fields = Fields(text=cfg.text_field, id=cfg.id_field)
    yield from texts_of_records(_records(cfg, reading), fields, reading)


def _records(cfg: Config, reading: Reading) -> Iterator[tuple[str, int, Any]]:
    """(data set, number of the record in this rank's share, record). Raises StageError for what cannot be read."""
    from datasets import load_dataset
    from datasets.distributed import split_dataset_by_node
    from datasets.exceptions import DatasetsError

    local = Path(cfg.name).is_dir()
    where = str(Path(cfg.name).absolute()) if local else f"{cfg.name}@{cfg.revision}"
    try:
        whole = load_dataset(
            str(Path(cfg.name).absolute()) if local else cfg.name,
            cfg.config,
            split=cfg.split,
            revision=None if local else cfg.revision,
            streaming=True,
        )
        mine = split_dataset_by_node(whole, rank=reading.rank, world_size=reading.ranks)
        for number, record in enumerate(mine):
            reading.progress(number, 0, "records")
            if sum(len(v) for v in record.values() if isinstance(v, str)) > cfg.max_record_mb * MB:
                reading.skip("larger than max_record_mb", where, number)
            else:
                yield where, number, record
    except (DatasetsError, OSError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise StageError(f"source.name={cfg.name}: {line}") from error
