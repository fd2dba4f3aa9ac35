"""A command as an inbox's handler: its arguments and environment for each file, and what its exit code means."""

import os
import queue
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from inboxd.config.handler_kinds import ProgramKeys
from inboxd.config.placeholders import fill_in, placeholders
from inboxd.errors import HandlerFailed, RejectFile
from inboxd.fs.remove import remove_tree
from inboxd.fs.syscalls import Disk, closing
from inboxd.handling.program import Ended, Surroundings, run_program
from inboxd.logs.text import describe_exit
from inboxd.messaging.inbox_file import InboxFile

OUTPUTS_VARIABLE = "INBOXD_FILE_OUTPUTS"
"""Names the folder of the outputs, if ``env`` has it, or the arguments have the placeholder."""
PASSED_ON = ("HOME", "LANG", "LANGUAGE", "PATH", "TMPDIR", "TZ")
"""Variables of the worker's environment that each command gets, beside those that begin with LC_, and that ``env`` names."""


class CommandHandler:
    """Runs an inbox's command with each file, in an empty current folder. For all threads of a process."""

    def __init__(self, keys: ProgramKeys) -> None:
        self._keys = keys
        self._environment = inherit_environment(keys.env, os.environ)
        words = {word for argument in keys.command for word in placeholders(argument)}
        self._makes_outputs = "outputs" in words or OUTPUTS_VARIABLE in keys.env

    def __call__(self, file: InboxFile) -> dict[str, Any]:
        """Run the command; return its exit code. Raises RejectFile, or HandlerFailed."""
        try:
            path = local_path(file)
            environment = {**self._environment, **describe_file(file, path)}
            if self._makes_outputs:
                environment[OUTPUTS_VARIABLE] = str(file.outputs_folder)
            argv = build_argv(self._keys.command, file)
            with ExitStack() as stack:
                folder = stack.enter_context(_work_folder())
                stdin = stack.enter_context(Path(path).open("rb")) if self._keys.stdin == "file" else None
                surroundings = Surroundings(folder, environment, stdin, self._keys.nice, self._keys.memory_max)
                ended = run_program(argv, surroundings)
        except OSError as error:
            raise HandlerFailed(f"{self._keys.command[0]} can't be started: {error.strerror}") from None
        return self._judge(ended, " / ".join(ended.last_lines).replace(path, file.filename))

    def _judge(self, ended: Ended, said: str) -> dict[str, Any]:
        if ended.exit_code in self._keys.ok_codes:
            return {"exit_code": ended.exit_code}
        if ended.exit_code in self._keys.reject_codes:
            raise RejectFile(said or f"{self._program} rejected the file without a word, with exit code {ended.exit_code}")
        how = "with" if ended.exit_code >= 0 else "by"
        raise HandlerFailed(f"{self._program} ended {how} {describe_exit(ended.exit_code)}" + (f": {said}" if said else ""))

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


def inherit_environment(env: tuple[str, ...], ours: Mapping[str, str]) -> dict[str, str]:
    """Return what a command gets of our environment, and what the settings name."""
    passed_on = {name: value for name, value in ours.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**passed_on, **dict(_named(env, ours))}


def describe_file(file: InboxFile, path: str) -> dict[str, str]:
    """Return the variables that tell a command of its file."""
    return {
        "INBOXD_FILE_PATH": path,
        "INBOXD_FILE_NAME": file.filename,
        "INBOXD_FILE_RELATIVE_PATH": file.relative_path,
        "INBOXD_FILE_ID": file.id,
        "INBOXD_FILE_SHA256": file.sha256,
        "INBOXD_FILE_INBOX": file.inbox,
        "INBOXD_FILE_ATTEMPT": str(file.attempt),
    }


def _named(env: tuple[str, ...], ours: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for text in env:
        name, is_set, value = text.partition("=")
        if is_set or name in ours:
            yield name, value if is_set else ours[name]


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Yield an empty folder, which is emptied afterwards and used again: making one takes longer than a quick program."""
    try:
        folder = _work_folders.get_nowait()
    except queue.Empty:
        folder = Path(tempfile.mkdtemp(prefix="inboxd-work-"))
    try:
        yield folder
    finally:
        if _is_as_made(folder):
            _work_folders.put(folder)
        else:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder of any depth; what can't be removed stays, and is nobody's failure."""
    disk = Disk()
    with suppress(OSError), closing(disk, disk.open_root(folder.parent)) as parent:
        remove_tree(disk, parent, os.fsencode(folder.name))


def _is_as_made(folder: Path) -> bool:
    """Return whether a command has left its folder empty, in its place, and with its permissions."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None and stat.S_IMODE(folder.lstat().st_mode) == _WORK_FOLDER_MODE
    except OSError:
        return False


_WORK_FOLDER_MODE = 0o700
_work_folders: queue.SimpleQueue[Path] = queue.SimpleQueue()


def local_path(file: InboxFile) -> str:
    """Return the file's path; on another host than the folders', that of a temporary copy."""
    return str(file.path) if file.path is not None else file.temporary_file_path()


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
