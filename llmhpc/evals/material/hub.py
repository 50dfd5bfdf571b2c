"""A data set of the Hugging Face hub as a folder: from the cache, and from the network only where that is asked for."""

import os
import re
from pathlib import Path

from llmhpc.errors import ConfigError, StageError

NO = {"0", "OFF", "NO", "FALSE"}


def online() -> bool:
    """Whether the user asked for the network: by HF_HUB_OFFLINE=0, not by leaving it out."""
    return os.environ.get("HF_HUB_OFFLINE", "1").upper() in NO


def check(name: str, revision: str) -> None:
    """Raise ConfigError unless the revision is a commit, and it is in the cache or the network was asked for."""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ConfigError(f"revision={revision or 'not set'}: the commit of {name}, 40 hex digits")
    if not (online() or _cached(name, revision).is_dir()):
        raise ConfigError(
            f"hub={name}: its commit {revision} is not in {_cached(name, '').parent.parent}; HF_HUB_OFFLINE=0"
            " downloads it, data_dir=FOLDER reads a copy"
        )


def snapshot(name: str, revision: str, patterns: list[str]) -> Path:
    """The folder of a commit; if it is downloaded, only files that match one of ``patterns``.

    Raises:
        ConfigError: see ``check``.
        StageError: the download fails.
    """
    check(name, revision)
    if not online():
        return _cached(name, revision)
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=patterns
        )
    except (OSError, ValueError) as error:
        raise StageError(f"hub={name}: {str(error).strip().splitlines()[0]}") from error
    return Path(folder)


def _cached(name: str, revision: str) -> Path:
    from huggingface_hub import constants

    folder = f"datasets--{name.replace('/', '--')}"
    return Path(constants.HF_HUB_CACHE) / folder / "snapshots" / revision
