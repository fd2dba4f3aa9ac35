"""A command as an inbox's handler: its arguments and environment for each file, and what its exit code means."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Any

from inboxd.config.handler_kinds import HandlerKeys, fill_in
from inboxd.errors import HandlerFailed, RejectFile
from inboxd.handling.program import Ended, Surroundings, run_program
from inboxd.messaging.inbox_file import InboxFile

PASSED_ON = ("HOME", "LANG", "LANGUAGE", "PATH", "TMPDIR", "TZ")
"""Variables of the worker's environment that each command gets, beside those that begin with LC_, and that ``env`` names."""


class CommandHandler:
    """Runs an inbox's command with each file. Its current folder is a new one, which is removed afterwards."""

    def __init__(self, keys: HandlerKeys) -> None:
        self._keys = keys

    def __call__(self, file: InboxFile) -> dict[str, Any]:
        """Run the command; return its exit code. Raises RejectFile, or HandlerFailed."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="inboxd-", ignore_cleanup_errors=True)))
            try:
                argv = build_argv(self._keys.command, file)
            except OSError as error:
                raise HandlerFailed(f"{self._program} can't be started: {error.strerror}") from None
            stdin = stack.enter_context(Path(local_path(file)).open("rb")) if self._keys.stdin == "file" else None
            environment = build_environment(self._keys.env, file, os.environ)
            surroundings = Surroundings(folder, environment, stdin, self._keys.nice, self._keys.memory_max)
            try:
                ended = run_program(argv, surroundings)
            except OSError as error:
                raise HandlerFailed(f"{argv[0]} can't be started: {error.strerror}") from None
            said = " / ".join(ended.last_lines).replace(local_path(file), file.filename)
        return self._judge(ended, said)

    def _judge(self, ended: Ended, said: str) -> dict[str, Any]:
        if ended.exit_code in self._keys.ok_codes:
            return {"exit_code": ended.exit_code}
        if ended.exit_code in self._keys.reject_codes:
            raise RejectFile(said or f"{self._program} rejected the file without a word, with exit code {ended.exit_code}")
        raise HandlerFailed(f"{self._program} {_describe(ended.exit_code)}" + (f": {said}" if said else ""))

    @property
    def _program(self) -> str:
        return PurePath(self._keys.command[0]).name


def build_argv(command: tuple[str, ...], file: InboxFile) -> list[str]:
    """Return the program and its arguments for a file. A name that begins with "-" is no option: "./" is put before it."""

    def value_of(word: str) -> str:
        return _PLACEHOLDERS[word](file)

    argv = [command[0]]
    for argument in command[1:]:
        filled = fill_in(argument, value_of)
        argv.append(f"./{filled}" if filled.startswith("-") and not argument.startswith("-") else filled)
    return argv


def build_environment(env: tuple[str, ...], file: InboxFile, ours: Mapping[str, str]) -> dict[str, str]:
    """Return a command's environment: little of ours, what the settings name, and what it may want to know of the file."""
    return {
        **{name: value for name, value in ours.items() if name in PASSED_ON or name.startswith("LC_")},
        **dict(_named(env, ours)),
        "INBOXD_FILE_PATH": local_path(file),
        "INBOXD_FILE_NAME": file.filename,
        "INBOXD_FILE_RELATIVE_PATH": file.relative_path,
        "INBOXD_FILE_ID": file.id,
        "INBOXD_FILE_SHA256": file.sha256,
        "INBOXD_FILE_INBOX": file.inbox,
        "INBOXD_FILE_ATTEMPT": str(file.attempt),
        **({"INBOXD_FILE_OUTPUTS": str(file.outputs_folder)} if file.can_have_outputs else {}),
    }


def _named(env: tuple[str, ...], ours: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for text in env:
        name, is_set, value = text.partition("=")
        if is_set or name in ours:
            yield name, value if is_set else ours[name]


def local_path(file: InboxFile) -> str:
    """Return the file's path; on another host than the folders', that of a temporary copy."""
    return str(file.path) if file.path is not None else file.temporary_file_path()


def _describe(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


_PLACEHOLDERS: dict[str, Callable[[InboxFile], str]] = {
    "attempt": lambda file: str(file.attempt),
    "content_type": lambda file: file.content_type,
    "id": lambda file: file.id,
    "inbox": lambda file: file.inbox,
    "name": lambda file: file.filename,
    "outputs": lambda file: str(file.outputs_folder),
    "path": local_path,
    "relative_path": lambda file: file.relative_path,
    "sha256": lambda file: file.sha256,
    "size": lambda file: str(file.size),
    "stem": lambda file: PurePath(file.filename).stem,
    "suffix": lambda file: PurePath(file.filename).suffix,
}
