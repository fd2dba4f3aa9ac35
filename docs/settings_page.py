"""Prints docs/settings.md: every key of the settings, with its type, limits, default, example and meaning."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from inboxd.config import units
from inboxd.config.rules import Inbox, Rules
from inboxd.config.settings import Settings

REFERENCE = Path(__file__).parent.parent / "settings.toml"

KINDS = {
    units.to_seconds: "time",
    units.to_days: "days",
    units.to_bytes: "size",
    units.to_list: "patterns",
    units.to_texts: "list of texts",
}
"""What a key's value is, by the function that reads it."""

EXAMPLES = {
    "authorization_file": '"/etc/inboxd/books-authorization"',
    "ca_file": '"/etc/ssl/certs/our-ca.pem"',
    "command": '["gzip", "--test", "{path}"]',
    "defaults.url": '"https://books.example.org/incoming"',
    "contact": '"Ms Lee, telephone 123"',
    "env": '["HOME", "OCR_LANGUAGE=deu"]',
    "exclude": '["draft-*", "old/*"]',
    "file": '"/var/log/inboxd/inboxd.log"',
    "files": '["/var/log/inboxd"]',
    "steps": '["scan:check", { command = ["gzip", "--test", "{path}"] }]',
    "out": '"/srv/archive"',
    "outputs": '"{date}/{stem}.pdf"',
    "queue": '"books"',
    "task": '"invoices.tasks.book"',
    "handler": '"invoices:book"',
    "host": '"files-1"',
    "hosts": '["inbox.example.org"]',
    "include": '["*.pdf", "*.xml"]',
    "listen": '"127.0.0.1:9464"',
    "namespace": '"invoices"',
    "notify_on": '["failed"]',
    "notify_urls": '["ntfys://ntfy.example.org/invoices"]',
    "ok_codes": "[0, 3]",
    "on": '["failed", "stuck"]',
    "notes": '"de"',
    "password_file": '"/etc/inboxd/web-password"',
    "reject_codes": "[65, 2]",
    "root": '"/srv/drop/invoices"',
    "secret_file": '"/etc/inboxd/books-secret"',
    "stage.options": '{ client_kwargs = { endpoint_url = "https://s3.example.org" } }',
    "stage.secret_file": '"/etc/inboxd/stage.toml"',
    "stage.url": '"s3://our-bucket/inboxd"',
    "state_dir": '"/var/lib/inboxd"',
    "temporary_names": '["*.busy", "!*.lock"]',
    "trusted_header": '"X-Remote-User"',
    "urls": '["mailtos://user:password@mail.example"]',
    "urls_file": '"/etc/inboxd/notify-urls"',
    "url": '"redis://:password@localhost/0"',
    "writable": '["/srv/archive"]',
}
"""Examples of keys whose type does not give one; with its table, of a key that several tables have."""

HEAD = """# Settings

Every key of `settings.toml`. This page is generated from the code that reads the settings (`make docs`), and from the
comments of `settings.toml` in the top folder of the project, which lists the same keys with their defaults.

- Precedence: defaults, then the file, then environment variables, then the command line. The variable of a key is
  `INBOXD_`, its tables and its name, in capitals, joined by two underscores: `INBOXD_REDIS__URL`,
  `INBOXD_INBOX__INVOICES__RETRIES`.
- A *time* is a number of seconds, or a text with a unit: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`. *Days* are a
  number of days, or such a text. A *size* is a number of bytes, or a text such as `"10MB"` (10,000,000) or `"64KiB"`
  (65,536). *Patterns* are a list such as `["*.pdf", "*.xml"]`, or one pattern.
- Relative paths are relative to the folder of `settings.toml`; `~` is a home.
- Unknown keys are refused, with the nearest known one. `inboxd check` reports every error in the file.
"""


def page() -> str:
    """Return the page's text."""
    comments = dict(read_comments(REFERENCE.read_text("utf-8")))
    parts = [HEAD]
    top = {name: field for name, field in Settings.model_fields.items() if not is_table(field) and name != "inbox"}
    parts.append(section("Top of the file", "", top, comments))
    for name, field in Settings.model_fields.items():
        if is_table(field):
            assert isinstance(field.annotation, type)
            assert issubclass(field.annotation, BaseModel)
            title = "`[defaults]` and `[inbox.NAME]`" if field.annotation is Rules else f"`[{name}]`"
            parts.append(section(title, name, field.annotation.model_fields, comments))
    parts.append(section("Only in `[inbox.NAME]`", "inbox.drop", {"root": Inbox.model_fields["root"]}, comments))
    return "\n".join(parts)


def read_comments(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield ((table, key), comment) for each line of settings.toml that sets a key."""
    table = ""
    for line in text.splitlines():
        if header := re.match(r"\[(.+?)\]", line):
            table = header[1]
        elif setting := re.match(r"(\w+) = (?:[^#\"]|\"[^\"]*\")*# *(.*)$", line):
            yield (table, setting[1]), setting[2]


def section(title: str, table: str, fields: dict[str, FieldInfo], comments: dict[tuple[str, str], str]) -> str:
    """Return a heading, and a table with a row for each field."""
    rows = [
        (
            f"`{name}`",
            cell(comments.get((table, name), "")),
            cell(describe(field)),
            default(field),
            f"`{example(table, name, field)}`",
        )
        for name, field in fields.items()
    ]
    head = [f"## {title}", "", "| key | meaning | value | default | example |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows), ""])


def is_table(field: FieldInfo) -> bool:
    """Return whether a field is a table of the file."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def describe(field: FieldInfo) -> str:
    """Return the words for a field's type and limits."""
    kind = _kind(field)
    words = kind or type_in_words(field.annotation)
    if kind and (allowed := _literals(field.annotation)):
        listed = ", ".join(f"`{word}`" for word in allowed)
        words = f"list of {listed}" if kind == "list of texts" else f"{words}, or {listed}"
    return ", ".join([words, *limits(field)])


def type_in_words(annotation: Any) -> str:  # noqa: ANN401 - an annotation may be anything
    """Return the words for a type."""
    if words := _literals(annotation):
        return ", ".join(f"`{word}`" for word in words)
    if get_origin(annotation) is tuple:
        return f"list of {type_in_words(get_args(annotation)[0])}s"
    if get_args(annotation):  # Annotated, a union, a mapping
        return type_in_words(get_args(annotation)[0])
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, "path")


def limits(field: FieldInfo) -> Iterator[str]:
    """Yield a field's limits, such as "at least 1"."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for constraint in _metadata(field):
        for name, word in words.items():
            value = getattr(constraint, name, None)
            if value is not None and not (name == "ge" and value == 0):
                yield f"{word} {with_unit(value, _kind(field))}"


def example(table: str, name: str, field: FieldInfo) -> str:
    """Return a valid value that is not the default, or is the default as people write it."""
    if found := EXAMPLES.get(f"{table}.{name}") or EXAMPLES.get(name):
        return found
    kind, default = _kind(field), field.default
    if kind:
        return f'"{with_unit(default, kind)}"' if isinstance(default, int | float) and default else ZERO_EXAMPLES[kind]
    if isinstance(default, bool):
        return str(not default).lower()
    if words := _literals(field.annotation):
        return f'"{next(word for word in reversed(words) if word != default)}"'
    if isinstance(default, int):
        return str(default * 2 or 8)
    raise LookupError(f"give the key {name} an example in docs/settings_page.py")


ZERO_EXAMPLES = {"time": '"30s"', "days": '"30d"', "size": '"100MB"'}


def with_unit(value: float, kind: str | None) -> str:
    """Return a number in the largest unit that leaves it whole, such as 5m for 300 seconds."""
    if kind == "days":
        return f"{value:g}d"
    sizes = {
        "time": (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)),
        "size": (("MiB", 1 << 20), ("KiB", 1 << 10), ("MB", 10**6)),
    }
    for unit, size in sizes.get(kind or "", ()):
        if value and value % size == 0:
            return f"{value / size:g}{unit}"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def default(field: FieldInfo) -> str:
    """Return a field's default as settings.toml writes it."""
    return "required" if field.is_required() else f"`{_value(field.default)}`"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return f"{value}" if isinstance(value, int | float) else f'"{value}"'


def _kind(field: FieldInfo) -> str | None:
    readers = (item.func for item in _metadata(field) if isinstance(item, BeforeValidator))
    return next((KINDS[reader] for reader in readers if reader in KINDS), None)


def _metadata(field: FieldInfo) -> list[Any]:
    """Return what annotates a field, also within a union, whose members may have annotations of their own."""
    nested = [item for member in get_args(field.annotation) for item in getattr(member, "__metadata__", ())]
    groups = (item.metadata if isinstance(item, FieldInfo) else [item] for item in [*field.metadata, *nested])
    return [item for group in groups for item in group]


def _literals(annotation: Any) -> tuple[str, ...]:  # noqa: ANN401 - an annotation may be anything
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((words for member in get_args(annotation) if (words := _literals(member))), ())


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write(page())
