"""Import handlers from installed packages or from the settings file's folder, which comes last on the import path."""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from inboxd.config.trusted_import import append_to_path


class UnusableHandlerError(TypeError):
    """A handler's name refers to an object that can't be called, or whose call would do nothing."""


class ShadowedModule(NamedTuple):
    """Two modules with one name: the file that is imported, or "Python's own module", and the one later on the import path."""

    imported: str
    shadowed: str


def append_settings_folder(file: Path) -> None:
    """Append the settings file's folder to the import path. As the last entry it can't replace an installed module."""
    append_to_path(str(file.parent))


@lru_cache(maxsize=256)
def import_handler(name: str) -> Callable[..., Any]:
    """Return the handler named ``module:function``, importing its module.

    Raises ImportError, AttributeError, UnusableHandlerError, or whatever the module raises while it is imported.
    """
    module, _, attribute = name.partition(":")
    handler: Any = importlib.import_module(module)
    for part in attribute.split("."):
        handler = getattr(handler, part)
    if why := _why_unusable(handler):
        raise UnusableHandlerError(f"{name} {why}")
    return handler  # type: ignore[no-any-return]  # its signature is not checked


def _why_unusable(handler: object) -> str | None:
    """Return why an object can't be a handler: a call would fail, or end before the file is handled."""
    if not callable(handler):
        return "is not callable"
    if inspect.isclass(handler):
        return "is a class, and a call would only make an object: name a function, or an object of the class"
    for function in (handler, type(handler).__call__):
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            return "is a generator, and a call would not begin it: use a function without yield"
    return None


def find_shadowed(name: str) -> ShadowedModule | None:
    """Return the first file that the handler's top-level module shadows on the import path, or None."""
    top_level = name.partition(":")[0].partition(".")[0]
    try:
        imported = importlib.util.find_spec(top_level)
    except (ImportError, ValueError):
        return None
    if imported is None:
        return None
    origin = str(imported.origin) if imported.has_location else f"Python's own module {top_level}"
    for folder in sys.path:
        other = PathFinder.find_spec(top_level, [folder])
        if other is not None and other.has_location and _real_path(other) != _real_path(imported):
            return ShadowedModule(origin, str(other.origin))
    return None


def _real_path(spec: ModuleSpec) -> str:
    return os.path.realpath(str(spec.origin))
