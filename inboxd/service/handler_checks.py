"""Checks what handles an inbox's files before a start: a function can be imported, a program is there, secrets can be read."""

import contextlib
import importlib.util
import shlex
import shutil
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.handler_import import UnusableHandlerError, find_shadowed, import_handler
from inboxd.config.handler_kinds import ProgramKeys
from inboxd.config.programs import is_on_this_host
from inboxd.config.rules import Inbox, Rules
from inboxd.config.secret_files import authorization_credential, read_secret, read_signing_key, secret_credential
from inboxd.config.strict_modes import find_untrusted
from inboxd.errors import Finding, SettingsError


def check_handler(inbox: Inbox) -> Iterator[Finding]:
    """Yield findings about the handler, command or URL of an inbox, or those of its chain. Nothing is called."""
    for number, keys in enumerate(inbox.programs, start=1):
        where = f"inbox.{inbox.name}" + (f".steps, {number}." if inbox.steps else ".")
        if keys.command:
            yield from _check_command(keys, where)
        elif keys.url:
            yield from _check_url(keys, where, inbox.name)
        else:
            yield from _check_function(keys, where)


_KEYS_OF_KINDS = {
    "command": ("stdin", "env", "ok_codes", "reject_codes", "nice", "memory_max"),
    "url": ("body", "keep_answer", "secret_file", "authorization_file", "ca_file"),
    "task": ("queue", "serializer", "answer_seconds", "copies_max"),
}
_KEYS_OF_OUTPUTS = ("out", "outputs", "on_conflict")


def find_idle_keys(inbox: Inbox, defaults: Rules) -> Iterator[Finding]:
    """Yield a note for each key of an inbox that its kind of handler has no use for."""
    kinds = {kind for kind in _KEYS_OF_KINDS if getattr(inbox, kind, None)}
    idle = [(key, kind) for kind, keys in _KEYS_OF_KINDS.items() if kind not in kinds for key in keys]
    idle += [(key, "handler, command or url") for key in _KEYS_OF_OUTPUTS if inbox.task]
    for key, kind in idle:
        if getattr(inbox, key) != getattr(defaults, key) and getattr(inbox, key) != Rules.model_fields[key].default:
            yield Finding(
                f"inbox.{inbox.name}.{key}", f"has no effect: it is for an inbox with {kind}", "remove it", blocks=False
            )


def _check_function(keys: ProgramKeys, where: str) -> Iterator[Finding]:
    key = f"{where}handler = {keys.handler!r}"
    try:
        import_handler(keys.handler)
    except UnusableHandlerError as error:
        yield Finding(key, str(error).removeprefix(f"{keys.handler} "), "name a function that takes one InboxFile")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a user's module may raise anything
        yield Finding(key, f"can't be imported: {type(error).__name__}: {error}", "install or correct the module, or its name")
    if found := find_shadowed(keys.handler):
        problem = f"{found.imported} is imported; it shadows {found.shadowed}"
        yield Finding(key, problem, "rename one of the two modules", blocks=False)


def _check_command(keys: ProgramKeys, where: str) -> Iterator[Finding]:
    """Yield a finding for a program that can't be run, or that others can change."""
    program = keys.command[0]
    search_path = next((text.removeprefix("PATH=") for text in keys.env if text.startswith("PATH=")), None)
    found = shutil.which(program, path=search_path)
    if found is None:
        problem, remedy = "is not found, or not executable", "install the program, or write its whole path"
        yield Finding(f"{where}command, {program}", problem, remedy)
        return
    yield from find_untrusted(Path(found))


def _check_url(keys: ProgramKeys, where: str, inbox: str) -> Iterator[Finding]:
    """Yield findings for secrets and certificates that can't be used, and a note if anybody on the way can read the files."""
    if importlib.util.find_spec("urllib3") is None:
        yield Finding(f"{where}url", "needs a package that is not installed", "pip install 'inboxd[webhook]'")
    if keys.url.startswith("http:") and not is_on_this_host(keys.url):
        problem = "is not encrypted: whoever is on the way can read and change the files"
        yield Finding(f"{where}url", problem, "use https://", blocks=False)
    yield from _check_secrets(keys, inbox)
    if keys.ca_file:
        try:
            ssl.create_default_context(cafile=keys.ca_file)
        except OSError as error:
            problem = f"can't be used: {error.strerror or error}"
            yield Finding(f"{where}ca_file, {keys.ca_file}", problem, "name a file with certificates in PEM")


def _check_secrets(keys: ProgramKeys, inbox: str) -> Iterator[Finding]:
    for path, credential, read in (
        (keys.secret_file, secret_credential(inbox), read_signing_key),
        (keys.authorization_file, authorization_credential(inbox), read_secret),
    ):
        if not path:
            continue
        try:
            read(path, credential)
        except SettingsError as error:
            yield from error.findings
        else:
            yield from _check_privacy(Path(path))


def _check_privacy(path: Path) -> Iterator[Finding]:
    """Yield a note for a secret that others can read, or may replace."""
    with contextlib.suppress(OSError):  # only the services can read it
        if path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            problem = "can be read by every user of this host, or written by others"
            yield Finding(str(path), problem, f"chmod 600 {shlex.quote(str(path))}", blocks=False)
