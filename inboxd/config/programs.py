"""The checks of what names a program, and of the programs of others: commands, variables, URLs, tasks and queues."""

import ipaddress
import json
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from inboxd.config.placeholders import placeholders

PLACEHOLDERS = (
    "attempt", "content_type", "id", "inbox", "name", "outputs", "path", "relative_path", "sha256", "size", "stem", "suffix",
)  # fmt: skip
"""The words that stand in braces in a command's arguments, for what differs from file to file."""

_SHELLS = ("ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh")


def check_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a program and its arguments, or () for none. Raises ValueError."""
    if not command:
        return command
    program, *arguments = command
    if not arguments and len(program.split()) > 1:
        raise ValueError(f"the program and each of its arguments are texts of their own: {json.dumps(program.split())}")
    if not program.strip() or next(placeholders(program), None):
        raise ValueError('the first text names the program, which is the same for each file: ["gzip", "--test", "{path}"]')
    for argument in command:
        if "\0" in argument:
            raise ValueError("no argument of a program can hold a zero byte")
        if unknown := [word for word in placeholders(argument) if word not in PLACEHOLDERS]:
            known = ", ".join(f"{{{word}}}" for word in PLACEHOLDERS)
            raise ValueError(f"{{{unknown[0]}}} is no placeholder; there are {known}; for braces, write {{{{{unknown[0]}}}}}")
    if any(map(list, map(placeholders, _shell_scripts(command)))):
        raise ValueError(
            "a shell would run parts of a file's name as commands: write $1 in the script, and the placeholder after it: "
            '["sh", "-c", "wc -l < \\"$1\\"", "sh", "{path}"]'
        )
    return command


def _shell_scripts(command: Sequence[str]) -> Sequence[str]:
    """Return the arguments up to the script that a shell is to run, also behind `env` or `timeout`; () if there is none."""
    shells = (number for number, argument in enumerate(command) if argument.rpartition("/")[2] in _SHELLS)
    rest = command[next(shells, len(command)) + 1 :]
    options = [number for number, argument in enumerate(rest) if re.fullmatch(r"-[A-Za-z]*c[A-Za-z]*", argument)]
    if not options:
        return ()
    scripts = (number for number in range(options[0] + 1, len(rest)) if not re.fullmatch(r"[-+].*", rest[number]))
    return rest[: next(scripts, len(rest)) + 1]


def check_variables(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of environment variables, or ``NAME=value``. Raises ValueError."""
    for text in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(=[^\0]*)?", text):
            raise ValueError(
                'a variable is a name, whose value is passed on, or a name with its value: ["HOME", "LANG=C.UTF-8"]'
            )
    return names


def check_url(value: str) -> str:
    """Return the URL of a webhook, "" for none. Raises ValueError, which does not name what may be a password."""
    if not value:
        return value
    if value.startswith(("redis:", "rediss:", "unix:")):
        raise ValueError("the URL of Redis belongs into [redis]; here is the one that files are sent to")
    try:
        parts = urlsplit(value)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_usable = False
    if not is_usable or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ValueError("a URL begins with https:// (or http://) and a host, such as https://books.example.org/incoming")
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "logs show URLs, so that none has a password: write the header Authorization's text into authorization_file"
        )
    if parts.fragment:
        raise ValueError("what follows # is never sent: leave it out")
    return value


def is_on_this_host(url: str) -> bool:
    """Return whether a URL leads to this host itself, so that nobody on the way can read or change what is sent."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_task(value: str) -> str:
    """Return the name of another app's task, "" for none. Raises ValueError."""
    if ":" in value:  # as in handler; whether an app has the task is only known while its workers run
        raise ValueError(f"a task has the name that its app prints at the start, with dots: {value.replace(':', '.')}")
    if value and (not _is_plain(value) or value.startswith("inboxd.")):
        raise ValueError("the task of another Celery app has the name that its app prints at the start: invoices.tasks.book")
    return value


def check_queue(value: str) -> str:
    """Return the name of another app's queue. Raises ValueError."""
    if not _is_plain(value) or value.startswith(("inboxd.", "unacked", "_kombu")):
        raise ValueError("the queue is the one that the workers of the other Celery app consume: theirs is celery by default")
    return value


def _is_plain(name: str) -> bool:
    return bool(re.fullmatch(r"[!-~]{1,200}", name))
