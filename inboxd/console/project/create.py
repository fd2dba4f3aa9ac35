"""Writes the files and folders of a new project; overwrites nothing."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from inboxd.config.loading import load_settings
from inboxd.config.strict_modes import find_untrusted
from inboxd.console.project.templates import FILES, ROOT_NAME, SETTINGS_NAME
from inboxd.errors import Finding, SettingsError
from inboxd.service import preflight

FILE_MODE = 0o644
"""Others must not be able to write to what inboxd runs, whatever the umask allows."""


def create_project(folder: Path) -> None:
    """Write settings, an example handler with its test, and the inbox's four folders. Raises SettingsError.

    Then nothing is left of the files, unless only the settings' check fails: the reason may be in the environment.
    """
    if taken := [*_find_taken(folder)]:
        raise SettingsError(taken)
    if untrusted := find_untrusted(folder / SETTINGS_NAME):
        raise SettingsError(untrusted)
    path = folder
    try:
        for path in (*reversed(folder.parents), folder):  # not parents=True, to which the mode does not apply
            path.mkdir(mode=0o755, exist_ok=True)
        with ExitStack() as on_error:
            for name, text in FILES.items():
                path = folder / name
                on_error.callback(_write_new(path, text))
            on_error.pop_all()
    except OSError as error:
        raise SettingsError([Finding(str(path), f"can't be written: {error.strerror}", "name another folder")]) from None
    preflight.create_folders(load_settings(folder / SETTINGS_NAME))


def _find_taken(folder: Path) -> list[Finding]:
    """Return a finding for each name that is in use."""
    taken = [folder / name for name in FILES if os.path.lexists(folder / name)]
    if (root := folder / ROOT_NAME).exists() and not root.is_dir():
        taken.append(root)
    return [Finding(str(path), "exists, and is not overwritten", "name another folder, or move it away") for path in taken]


def _write_new(path: Path, text: str) -> Callable[[], None]:
    """Write a new file; return a function that removes it. Raises OSError, with no file left."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        try:
            file.write(text)
            file.flush()
        except OSError:
            path.unlink()
            raise
    return path.unlink
