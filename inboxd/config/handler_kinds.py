"""What handles an inbox's files: a function, a command, a URL, a chain of these, or a task of another Celery app.

The keys of each kind, and which of them is set.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from inboxd.config.tables import Section
from inboxd.config.units import expand_home_text, to_bytes, to_seconds, to_texts
from inboxd.config.values import check_handler_name

DEFAULT_HANDLER = "inboxd.handlers:describe"
KINDS = ("handler", "command", "url", "task", "steps")
"""The keys of which an inbox has one: each names what handles its files."""

FILES = ("authorization_file", "ca_file", "secret_file")
"""The keys that name a file of a webhook's."""

PLACEHOLDERS = (
    "attempt", "content_type", "id", "inbox", "name", "outputs", "path", "relative_path", "sha256", "size", "stem", "suffix",
)  # fmt: skip
"""The words that stand in braces in a command's arguments, for what differs from file to file."""

_BRACES = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
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


def placeholders(text: str) -> Iterator[str]:
    """Yield the words in single braces."""
    return (single for _, single in _BRACES.findall(text) if single)


def fill_in(text: str, value_of: Callable[[str], str]) -> str:
    """Return a text with the value of each placeholder, and single braces for double ones."""
    return _BRACES.sub(lambda match: f"{{{match[1]}}}" if match[1] else value_of(match[2]), text)


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
    if ":" in value and "." in value:
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


ExitCodes = tuple[Annotated[int, Field(ge=0, le=255)], ...]


class ProgramKeys(Section):
    """What a worker calls with a file: one of ``handler``, ``command`` and ``url``, and how."""

    handler: Annotated[str, AfterValidator(check_handler_name)] = DEFAULT_HANDLER
    command: Annotated[tuple[str, ...], BeforeValidator(to_texts), AfterValidator(check_command)] = ()
    stdin: Literal["none", "file"] = "none"
    env: Annotated[tuple[str, ...], BeforeValidator(to_texts), AfterValidator(check_variables)] = ()
    ok_codes: ExitCodes = (0,)
    reject_codes: ExitCodes = (65,)
    nice: Annotated[int, Field(ge=0, le=19)] = 0
    memory_max: Annotated[int, BeforeValidator(to_bytes), Field(ge=0)] = 0
    url: Annotated[str, AfterValidator(check_url)] = ""
    body: Literal["raw", "multipart"] = "raw"
    keep_answer: bool = False
    secret_file: Annotated[str, AfterValidator(expand_home_text)] = ""
    authorization_file: Annotated[str, AfterValidator(expand_home_text)] = ""
    ca_file: Annotated[str, AfterValidator(expand_home_text)] = ""

    @property
    def handled_by(self) -> str:
        """What handles the files: "invoices:book", "command ocrmypdf", or a URL without its query, which may hold a token."""
        return f"command {self.command[0]}" if self.command else self.url.partition("?")[0] or self.handler

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        given = [kind for kind in KINDS if _is_given(self, kind)]
        if len(given) > 1:
            raise ValueError(f"has both {' and '.join(given[:2])}: one of them handles the files; remove the other")
        if both := set(self.ok_codes) & set(self.reject_codes):
            raise ValueError(f"ok_codes and reject_codes both have {min(both)}: an exit code has one meaning")
        return self


def _is_given(keys: ProgramKeys, kind: str) -> bool:
    return kind in keys.model_fields_set if kind == "handler" else bool(getattr(keys, kind, None))


def to_step(value: object) -> object:
    """Return a step of a chain as a table: the text ``module:function`` stands for one with this handler."""
    return {"handler": value} if isinstance(value, str) else value


def check_steps(steps: tuple[ProgramKeys, ...]) -> tuple[ProgramKeys, ...]:
    """Return the steps of a chain, () for none. Raises ValueError."""
    if any(not any(_is_given(step, kind) for kind in KINDS) for step in steps):
        raise ValueError(
            'each step is a text "module:function", or a table: {command = ["gzip", "{path}"]}, {url = "https://books.example.org"}'
        )
    if sum(bool(step.secret_file or step.authorization_file) for step in steps) > 1:
        raise ValueError("only one step can have a secret_file or authorization_file, which is passed on by the inbox's name")
    return steps


class HandlerKeys(ProgramKeys):
    """What handles the files: one of ``handler``, ``command``, ``url``, ``task`` and ``steps``, and how it is called."""

    task: Annotated[str, AfterValidator(check_task)] = ""
    queue: Annotated[str, AfterValidator(check_queue)] = "celery"
    serializer: Literal["msgpack", "json"] = "msgpack"
    answer_seconds: Annotated[float, BeforeValidator(to_seconds), Field(ge=1, le=30 * 86_400, allow_inf_nan=False)] = 3600.0
    copies_max: Annotated[int, Field(ge=1, le=100)] = 3
    steps: Annotated[tuple[Annotated[ProgramKeys, BeforeValidator(to_step)], ...], AfterValidator(check_steps)] = ()

    @property
    def handled_by(self) -> str:
        """As of a single program; or "task invoices.tasks.book", or the steps of a chain."""
        if self.steps:
            return " > ".join(step.handled_by for step in self.steps)
        return f"task {self.task}" if self.task else super().handled_by

    @property
    def programs(self) -> tuple[ProgramKeys, ...]:
        """What a worker calls with each file, one after the other: the steps, or these keys; () for a task of another app."""
        return () if self.task else self.steps or (self,)

    @model_validator(mode="before")
    @classmethod
    def _take_list_as_steps(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("handler"), list | tuple):
            steps = data["handler"]
            if data.get("steps"):
                raise ValueError("has both handler and steps: one of them handles the files; remove the other")
            return {key: value for key, value in data.items() if key != "handler"} | {"steps": steps}
        return data


def without_other_kinds(defaults: dict[str, object], own: dict[str, object]) -> dict[str, object]:
    """Return the keys of ``[defaults]`` for an inbox with these keys: its own kind of handler replaces that of the defaults."""
    if any(kind in own for kind in KINDS):
        return {key: value for key, value in defaults.items() if key not in KINDS}
    return defaults
