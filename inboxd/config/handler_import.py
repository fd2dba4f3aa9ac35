"""Importing handlers: from what is installed, and from the settings file's folder, which comes last on the import path."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, NamedTuple


class NotCallableError(TypeError):
    """A handler's name leads to something that can't be called."""


class Hidden(NamedTuple):
    """A module that can't be imported because another of that name comes before it on the import path; both are files."""

    imported: str
    hidden: str


def append_settings_folder(file: Path) -> None:
    """Let handlers be imported from the settings file's folder. It comes last: nothing in there replaces what is installed."""
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)


@lru_cache(maxsize=256)
def import_handler(name: str) -> Callable[..., Any]:
    """Import the handler named ``module:function``.

    Raises ImportError, AttributeError or NotCallableError if there is none, or whatever the module raises.
    """
    module, _, attribute = name.partition(":")
    handler: Any = importlib.import_module(module)
    for part in attribute.split("."):
        handler = getattr(handler, part)
    if not callable(handler):
        raise NotCallableError(f"{name} is not callable")
    return handler  # type: ignore[no-any-return]  # callable is as much as can be known


def hidden_module(name: str) -> Hidden | None:
    """Return the first module that another one hides, of those that the handler ``name`` could mean; None if none is."""
    top = name.partition(":")[0].partition(".")[0]
    try:
        imported = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if imported is None or not imported.has_location:
        return None
    for folder in sys.path:
        other = PathFinder.find_spec(top, [folder])
        if other is not None and other.has_location and _file(other) != _file(imported):
            return Hidden(str(imported.origin), str(other.origin))
    return None


def _file(spec: ModuleSpec) -> str:
    return os.path.realpath(str(spec.origin))
