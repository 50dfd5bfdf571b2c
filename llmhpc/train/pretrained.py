"""A model to go on with that others have trained: a folder as transformers writes it. Torch is not imported: the launcher looks here, too.

What such a folder is called in Hugging Face's terms each architecture's module ``hugging_face`` knows.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmhpc.errors import ConfigError
from llmhpc.files import read_json
from llmhpc.models import Model, hugging_face
from llmhpc.tokens import hub
from llmhpc.tokens.folder import TOKENIZER, tokens

CONFIG = "config.json"
SAMPLES, SAMPLE_BYTES = 64, 1 << 18  # of a file
ONLY_AT_THE_START = ("init_std",)  # says nothing of a model that is trained


def description(place: str) -> Path:
    """The folder with everything but weights; of the hub it is downloaded. Raises ConfigError if it is not to be had."""
    return _folder(place, hub.DESCRIPTION)


def weights(place: str) -> Path:
    """The same with the weights."""
    return _folder(place, hub.WHOLE)


def _folder(place: str, wanted: tuple[str, ...]) -> Path:
    try:
        return hub.folder(place, wanted)
    except ConfigError as error:
        raise ConfigError(f"pretrained={error}") from None


def content(folder: Path) -> str:
    """16 hex digits of what a folder holds; of files of many gigabytes the sizes and samples from all over them."""
    every = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in (".json", ".safetensors"):
            size = path.stat().st_size
            every.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                for number in range(SAMPLES):
                    file.seek(max(0, size - SAMPLE_BYTES) * number // (SAMPLES - 1))
                    every.update(file.read(SAMPLE_BYTES))
    return every.hexdigest()[:16]


def check(folder: Path, model: Model) -> None:
    """Raise ConfigError, with the first setting that is not the same, unless ``folder`` holds a ``model``."""
    config = read_json(folder / CONFIG)
    if config is None:
        raise ConfigError(
            f"pretrained={folder}: no {CONFIG} there; a folder that transformers opens"
        )
    try:
        there = asdict(settings(folder, config, model.kind))
    except ConfigError as error:
        raise ConfigError(f"pretrained={error}") from None
    names = hugging_face(model.kind)
    as_written = names.settings(names.config(model, sequence_length=1, dtype="float32"))
    for key, own in asdict(as_written).items():
        if key not in ONLY_AT_THE_START and own != there[key]:
            raise ConfigError(f"model.{key}={own}: {there[key]}, as {folder} has")


def settings(folder: Path, config: dict[str, Any], kind: str) -> Model:
    """The settings of a model of architecture ``kind`` that ``folder``'s config.json says; ConfigError if it is none."""
    try:
        return hugging_face(kind).settings(config)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {CONFIG} has {error}") from None
    except KeyError as error:
        raise ConfigError(f"{folder}: {CONFIG} has no {error.args[0]}") from None


def check_tokenizer(folder: Path, tokenizer: Path) -> None:
    """Raise ConfigError, with the first token that is not the same, if a sealed step's tokenizer is not the folder's.

    A folder without tokenizer.json says nothing.
    """
    if not (folder / TOKENIZER).exists():
        return
    ours, theirs = (
        tokens(read_json(path / TOKENIZER)) for path in (tokenizer / "tokenizer", folder)
    )
    for number in sorted(ours.keys() | theirs.keys()):
        if (here := ours.get(number)) != (there := theirs.get(number)):
            raise ConfigError(
                f"needs.tokenizer={tokenizer.name}: token {number} is {here!r}, in {folder} {there!r};"
                " stage/tokenizer=folder takes the folder's own"
            )
