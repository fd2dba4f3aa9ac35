"""Import a package when something is first asked of it: for packages that a library imports and no command uses."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def defer_import(package: str) -> None:
    """From now on, run a package's ``__init__`` when one of its names is looked up, rather than when it is imported.

    Its modules can be imported before; a package that is imported already stays as it is.
    """
    if package not in sys.modules:
        sys.meta_path.insert(0, _Finder(package))


class _Finder(MetaPathFinder):
    """Finds one package, and gives it a loader that defers."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of the package; None for every other module."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == self._package else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Leaves a package empty but for a ``__getattr__`` (PEP 562), which runs the package at the first name that is missing."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the package's own loader makes."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Defer the execution."""

        def load(name: str) -> object:
            if vars(module).pop("__getattr__", None) is not None:
                self._loader.exec_module(module)
            try:
                return vars(module)[name]
            except KeyError:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}") from None

        vars(module)["__getattr__"] = load
