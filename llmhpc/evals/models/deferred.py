"""Packages that are imported only when something of them is used, although a library asks for them at once."""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, TracebackType
from typing import Any


class Deferred(MetaPathFinder, Loader):
    """While it is entered, imports of the packages give placeholders; none is left in ``sys.modules`` after it.

    The library that was imported meanwhile keeps its placeholders, and what it takes from them becomes the
    real thing when it is called, asked for an attribute or an instance, or derived from. A package that the
    process has already is left as it is.

    Args:
        packages: names of top-level packages.
    """

    def __init__(self, *packages: str) -> None:
        self.packages = {name for name in packages if name not in sys.modules}
        self.placeholders: list[ModuleType] = []

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """From here on imports are real; a second call does nothing."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for module in self.placeholders:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """One for the packages and all that is in them."""
        if fullname.partition(".")[0] not in self.packages:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A placeholder."""
        module = _Placeholder(spec.name)
        module.__dict__["_deferred"] = self
        self.placeholders.append(module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing has to be run."""


class _Placeholder(ModuleType):
    """Of a module."""

    _deferred: Deferred

    def __getattr__(self, name: str) -> "_Thing":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Thing(self._deferred, self.__name__, name)


class _Thing:
    """Of a function or a class in a module."""

    def __init__(self, deferred: Deferred, module: str, name: str) -> None:
        self._deferred = deferred
        self._module = module
        self._name = name

    def _real(self) -> Any:
        self._deferred.end()  # what is used while a library is being imported has to be there
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._real())
