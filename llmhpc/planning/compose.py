"""Overrides of the command line in, checked settings out; every mistake is one line that says what would be right."""

import difflib
import itertools
import re
from dataclasses import fields, is_dataclass
from importlib import resources
from typing import Any, get_origin

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmhpc.config import Config
from llmhpc.errors import ConfigError
from llmhpc.planning.registry import GROUPS, register

NEAREST = 3


def compose(overrides: list[str]) -> Config:
    """The checked settings of a run. Raises ConfigError; writes nothing."""
    register()
    with initialize_config_dir(str(resources.files("llmhpc.conf"))):
        try:
            overrides = _placed(overrides)
            raw = hydra_compose("config", overrides=overrides)
        except (HydraException, OmegaConfBaseException) as error:
            try:
                raw = hydra_compose("config", overrides=_added(overrides))
            except (HydraException, OmegaConfBaseException):
                raise ConfigError(_one_line(error, overrides)) from None
    return typed(raw)


def _placed(overrides: list[str]) -> list[str]:
    """The same, where a group alone stands for the one place that the pipeline has it at: source=warc."""
    keys = [override.partition("=")[0] for override in overrides]
    if not any(key.split("/")[0] in GROUPS for key in keys):
        return overrides
    pipeline = [o for o, key in zip(overrides, keys, strict=True) if key == "pipeline"]
    choices = hydra_compose("config", overrides=pipeline, return_hydra_config=True)
    places = list(choices.hydra.runtime.choices)
    placed = []
    for override, key in zip(overrides, keys, strict=True):
        found = [place for place in places if place.startswith(f"{key}@")]
        if key in places or not found:
            placed.append(override)
        elif len(found) == 1:
            placed.append(found[0] + override.removeprefix(key))
        else:
            raise ConfigError(f"{override}: {' or '.join(sorted(found))}, which of them?")
    return placed


def _added(overrides: list[str]) -> list[str]:
    """The same, with Hydra's ++ before what goes into a table of free keys, as in cluster.slurm.reservation=x."""
    default = hydra_compose("config")
    return [f"++{o}" if _is_free(default, o.partition("=")[0]) else o for o in overrides]


def _is_free(node: Any, key: str) -> bool:
    """True for a key at or in a table whose keys are the user's own, and whose values are not settings themselves."""
    for part in key.split("."):
        if not isinstance(node, DictConfig) or (part not in node and not _is_table(node)):
            return False
        node = node._get_node(part) if part in node else None
        if node is None:
            return True
    return _is_table(node)


def _is_table(node: Any) -> bool:
    if not isinstance(node, DictConfig):
        return False
    element = node._metadata.element_type
    return element in (str, int, float, bool) or get_origin(element) is dict


def points(overrides: list[str]) -> dict[str, Config]:
    """Every combination of the overrides that list values (seed=1,2,3), by what tells it from the others.

    Raises ConfigError, which names the point where one is wrong.
    """
    choices = [_values(override) for override in overrides]
    found = {}
    for values in itertools.product(*choices):
        varied = [v for v, all_values in zip(values, choices, strict=True) if len(all_values) > 1]
        found[" ".join(varied)] = compose(list(values))
    return found


def _values(override: str) -> list[str]:
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        raise ConfigError(f"{override}: group=option, key=value or key=value,value") from None
    if not parsed.is_sweep_override():
        return [override]
    values = parsed.sweep_string_iterator()
    return [f"{parsed.get_key_element()}={value}" for value in values]


def typed(raw: DictConfig) -> Config:
    """The dataclasses of a composed configuration, with their own checks run."""
    _refuse_unknown(raw, "")
    try:
        return OmegaConf.to_object(raw)  # type: ignore[return-value]
    except (ConfigError, OmegaConfBaseException) as error:
        raise ConfigError(_located(raw, "", error)) from None


def _children(node: DictConfig) -> list[tuple[str, DictConfig]]:
    """The tables inside a table that are set."""
    nodes = ((str(key), node._get_node(key)) for key in node)
    return [
        (key, child)
        for key, child in nodes
        if isinstance(child, DictConfig) and not (child._is_none() or child._is_missing())
    ]


def _refuse_unknown(node: DictConfig, prefix: str) -> None:
    """Raise ConfigError for a key that was added (+key=value) to settings that have no such field."""
    schema = OmegaConf.get_type(node)
    if is_dataclass(schema):
        valid = [field.name for field in fields(schema)]
        for key in map(str, node):
            if key not in valid:
                raise ConfigError(f"{prefix}{key}: no such setting; {_nearest(key, valid, prefix)}")
    for key, child in _children(node):
        _refuse_unknown(child, f"{prefix}{key}.")


def _located(node: DictConfig, prefix: str, error: Exception) -> str:
    """The message of ``error`` behind the full path of the innermost settings that raise it."""
    for key, child in _children(node):
        try:
            OmegaConf.to_object(child)
        except (ConfigError, OmegaConfBaseException) as inner:
            return _located(child, f"{prefix}{key}.", inner)
    if missing := sorted(map(str, OmegaConf.missing_keys(node))):
        return f"{prefix}{missing[0]} is not set"
    return f"{prefix}{_first_line(error)}"


def _first_line(error: BaseException) -> str:
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
    if "Error when parsing" in text:
        return f"{_guilty(text, overrides)}: group=option or key=value"
    wanted = re.search(r"full_key: (\S+)", cause)
    guilty = f"{wanted.group(1)}: " if wanted else ""
    line = _first_line(error.__cause__ if error.__cause__ and wanted else error)
    given = [o for o in overrides if wanted and o.lstrip("+~").startswith(wanted.group(1))]
    return f"{given[0] if given else guilty + ''}: {line}" if given else f"{guilty}{line}"


def _guilty(text: str, overrides: list[str]) -> str:
    """The override that Hydra's parser could not read."""
    found = re.search(r"parsing index: (\d+)", text)
    guilty = overrides[int(found.group(1))] if found else " ".join(overrides)
    return guilty if guilty.isprintable() else repr(guilty)


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
