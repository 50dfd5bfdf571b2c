"""A folder of modules is a config group: module name = option name, module.Config = its schema."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from types import ModuleType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore

from llmhpc.config import Config
from llmhpc.errors import ConfigError

GROUPS = {
    "stage": "llmhpc.jobs",
    "source": "llmhpc.sources",
    "rule": "llmhpc.filters",
    "method": "llmhpc.dedup",
    "model": "llmhpc.models",
    "backend": "llmhpc.generation.backends",
    "recipe": "llmhpc.generation.recipes",
    "task": "llmhpc.evals.tasks",
}


def load(group: str, option: str) -> ModuleType:
    """The module of one option of a group."""
    return importlib.import_module(f"{GROUPS[group]}.{option}")


def options(group: str) -> Iterator[str]:
    """The options of a group: its modules that hold a Config."""
    for module in pkgutil.iter_modules(importlib.import_module(GROUPS[group]).__path__):
        if hasattr(load(group, module.name), "Config"):
            yield module.name


def register() -> None:
    """Tell Hydra every schema; choices of values come from the YAML files in conf/."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config, replace=True)
    for group in GROUPS:
        for option in options(group):
            store.store(group=group, name=option, node=load(group, option).Config, replace=True)


def revive(schema: type, data: dict[str, Any]) -> Any:
    """The dataclass whose fields ``data`` holds; ``kind`` names the subclass of a group's base."""
    if "group" in vars(schema):
        schema = load(schema.group, data["kind"]).Config  # type: ignore[attr-defined]
    hints = get_type_hints(schema)
    if unknown := sorted(set(data) - set(hints)):
        raise ConfigError(f"{schema.__module__} has no field {', '.join(unknown)}")
    return schema(**{key: _revive_value(hints[key], value) for key, value in data.items()})


def _revive_value(hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):  # Optional[X]
        hint = next(arg for arg in get_args(hint) if arg is not type(None))
    if value is None:
        return None
    if is_dataclass(hint):
        return revive(hint, value)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint[value]
    if get_origin(hint) is dict:
        return {key: _revive_value(get_args(hint)[1], item) for key, item in value.items()}
    if get_origin(hint) is list:
        return [_revive_value(get_args(hint)[0], item) for item in value]
    return value
