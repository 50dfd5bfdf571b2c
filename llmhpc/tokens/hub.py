"""The folder of a model that others have published: one on disk, or NAME@COMMIT of the Hugging Face hub."""

import re
from pathlib import Path

from llmhpc.errors import ConfigError

# A branch would not be the same model again.
NAME = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
DESCRIPTION = ("*.json", "*.jinja")
WHOLE = (*DESCRIPTION, "*.safetensors")


def absolute(place: str) -> str:
    """A folder's full path, as a job has another working directory; a name of the hub as it is."""
    return place if NAME.fullmatch(place) else str(Path(place).absolute())


def folder(place: str, wanted: tuple[str, ...] = DESCRIPTION) -> Path:
    """Where the files are; those of the hub are downloaded to its cache unless they are there.

    Raises ConfigError, which begins with ``place``, if they are not to be had.
    """
    if (found := NAME.fullmatch(place)) is None:
        return Path(place)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    name, commit = found.groups()
    try:
        return Path(snapshot_download(name, revision=commit, allow_patterns=list(wanted)))
    except LocalEntryNotFoundError:
        why = f"the hub cannot be reached; where it can: hf download {name} --revision {commit}"
    except (HfHubHTTPError, OSError) as error:
        why = str(error).strip().splitlines()[0]
    raise ConfigError(f"{place}: {why}")
