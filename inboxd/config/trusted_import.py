"""Import modules from the settings file's folder only if nobody else can change them, and from their sources.

What lies in ``__pycache__`` is not read: a planted file there would be run in the place of the source.
"""

import sys
from collections.abc import Sequence
from importlib import machinery
from importlib.abc import PathEntryFinder
from pathlib import Path
from types import ModuleType

from inboxd.config.strict_modes import find_untrusted

_locations: set[str] = set()
"""The folders of modules that are checked: those of the settings, and those of the packages in them."""


def _require_trusted(path: str) -> None:
    if untrusted := find_untrusted(Path(path)):
        raise ImportError(f"{untrusted[0].where}: {untrusted[0].problem}")


class _SourceLoader(machinery.SourceFileLoader):
    def get_data(self, path: str) -> bytes:
        """Return a source. Raises ImportError if others can change it."""
        _require_trusted(path)
        return super().get_data(path)

    def path_stats(self, path: str) -> dict[str, float]:
        """Raise OSError: then no byte code is read or written."""
        raise OSError(f"no byte code for {path}")


class _ExtensionLoader(machinery.ExtensionFileLoader):
    def create_module(self, spec: machinery.ModuleSpec) -> ModuleType:
        """Load an extension module. Raises ImportError if others can change it."""
        _require_trusted(self.path)
        return super().create_module(spec)


class _Finder(machinery.FileFinder):
    def find_spec(self, fullname: str, target: ModuleType | None = None) -> machinery.ModuleSpec | None:
        """Find a module; those in its package are checked, too."""
        spec = super().find_spec(fullname, target)
        if spec is not None:
            _locations.update(spec.submodule_search_locations or ())
        return spec


def _make_finder(path: str) -> PathEntryFinder:
    if path not in _locations:
        raise ImportError(f"not a folder of handlers: {path}")
    loaders: Sequence[tuple[type, list[str]]] = (
        (_ExtensionLoader, machinery.EXTENSION_SUFFIXES),
        (_SourceLoader, machinery.SOURCE_SUFFIXES),
    )
    return _Finder(path, *loaders)


def append_to_path(folder: str) -> None:
    """Append a folder to the import path. As the last entry it can't replace an installed module."""
    if folder in sys.path:
        return
    if _make_finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _make_finder)
    _locations.add(folder)
    sys.path_importer_cache.pop(folder, None)
    sys.path.append(folder)
