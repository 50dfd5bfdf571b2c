"""Overrides of the command line in, checked settings out; every mistake is one line that says what would be right."""

import difflib
import re
from importlib import resources
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmhpc.config import Config
from llmhpc.errors import ConfigError
from llmhpc.registry import register

NEAREST = 3


def compose(overrides: list[str]) -> Config:
    """The checked settings of a run. Raises ConfigError; writes nothing."""
    register()
    with initialize_config_dir(str(resources.files("llmhpc.conf"))):
        try:
            raw = hydra_compose("config", overrides=overrides)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_one_line(error, overrides)) from None
    return typed(raw)


def typed(raw: DictConfig) -> Config:
    """The dataclasses of a composed configuration, with their own checks run."""
    for key in raw:
        _to_object(raw, str(key))
    return _object(raw, "")


def _to_object(parent: DictConfig, key: str) -> None:
    """Build every child on its own first, so that an error names its full path."""
    if key == "stages":
        for name in parent.stages:
            _object(parent.stages[name], f"stages.{name}.")
    elif isinstance(parent._get_node(key), DictConfig):
        _object(parent[key], f"{key}.")


def _object(node: Any, prefix: str) -> Any:
    try:
        _fill_children(node, prefix)
        return OmegaConf.to_object(node)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}" if prefix else str(error)) from None
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", "") or prefix.rstrip(".")
        raise ConfigError(f"{key}: {_first_line(error)}") from None


def _fill_children(node: Any, prefix: str) -> None:
    """The same for nested settings, deepest first."""
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_missing()):
            try:
                _fill_children(child, f"{key}.")
                OmegaConf.to_object(child)
            except ConfigError as error:
                raise ConfigError(f"{key}.{error}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _one_line(error: Exception, overrides: list[str]) -> str:
    """Hydra's message on one line, with the nearest names that exist."""
    text = str(error)
    cause = f"{text}\n{error.__cause__ or ''}"
    if found := re.search(r"(?:Could not find|could not find) '([^']+)'", cause):
        return _bad_option(found.group(1))
    if found := re.search(r"Could not override '([^']+)'", cause):
        return _bad_key(found.group(1))
    if found := re.search(r"Key '([^']+)' (?:is not in struct|not in '[^']+')", cause):
        full = re.search(r"full_key: (\S+)", cause)
        return _bad_key(full.group(1) if full else found.group(1))
    wanted = re.search(r"full_key: (\S+)", cause)
    guilty = f"{wanted.group(1)}: " if wanted else ""
    line = _first_line(error.__cause__ if error.__cause__ and wanted else error)
    given = [o for o in overrides if wanted and o.lstrip("+~").startswith(wanted.group(1))]
    return f"{given[0] if given else guilty + ''}: {line}" if given else f"{guilty}{line}"


def _bad_option(path: str) -> str:
    group, _, option = path.rpartition("/")
    folder = resources.files("llmhpc.conf").joinpath(*group.split("/"))
    valid = (
        sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
        if folder.is_dir()
        else []
    )
    return f"{group}={option}: no such option; {_nearest(option, valid)}"


def _bad_key(key: str) -> str:
    key = key.lstrip("+~")
    group = key.split("@")[0]
    if "@" in key or resources.files("llmhpc.conf").joinpath(group).is_dir():
        return f"{key}: this pipeline takes no such group"
    known = _known_keys()
    parent, _, last = key.rpartition(".")
    while parent and not any(k.startswith(f"{parent}.") for k in known):
        parent, _, last = parent.rpartition(".")
    prefix = f"{parent}." if parent else ""
    valid = sorted({k[len(prefix) :].split(".")[0] for k in known if k.startswith(prefix)})
    return f"{key}: no such setting; {_nearest(last, valid, prefix)}"


def _nearest(word: str, valid: list[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(word, valid, n=NEAREST, cutoff=0.5) or valid
    return f"nearest: {', '.join(prefix + name for name in near)}" if near else "there are none"


def _known_keys() -> list[str]:
    """Every dotted key of the default run."""
    raw = OmegaConf.to_container(hydra_compose("config"), throw_on_missing=False)
    found: list[str] = []

    def walk(node: Any, prefix: str) -> None:
        for key, value in node.items():
            found.append(f"{prefix}{key}")
            if isinstance(value, dict):
                walk(value, f"{prefix}{key}.")

    walk(raw, "")
    return found
