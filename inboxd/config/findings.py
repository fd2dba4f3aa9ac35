"""Findings for what pydantic refuses in the settings: in words for the person who wrote the file, never in pydantic's."""

import difflib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inboxd.config.handler_kinds import ProgramKeys
from inboxd.config.rules import Inbox, Rules
from inboxd.config.settings import Settings
from inboxd.errors import Finding

_TABLES: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}

_SECRET_KEYS = ("urls", "notify_urls")
"""Keys whose values may contain passwords, and so are in no message."""

Source = Callable[[tuple[str, ...]], str]
"""Names where a key was set: the settings file, an environment variable …"""


class _Words(NamedTuple):
    """What is wrong with a value, and the remedy, in which ``{key}``, ``{limit}``, ``{unit}`` and so on are filled in."""

    problem: str
    remedy: str


_WHOLE = _Words("is not a whole number", "write a whole number{of_unit}")
_NUMBER = _Words("is not a number", "write a number{of_unit}")
_SMALL, _LARGE = "is too small", "is too large"
_LIST = _Words("is not a list", 'write a list: ["first", "second"]')
_CODES = _Words("is not a list", "write a list of numbers: [0, 3]")
_TABLE = _Words("is not a table", "write a table: [{key}], and its keys below it")

_WORDS = {
    "string_type": _Words("is not a text", "write a text in quotes"),
    "string_unicode": _Words("is not a text in UTF-8", "write a text in UTF-8"),
    "string_pattern_mismatch": _Words(
        "is not a name for an inbox", "use lower case letters, digits, - and _, 64 at most; the first is a letter or a digit"
    ),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": _Words("has too many digits", "write a whole number{of_unit}"),
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _Words("is not a finite number", "write a number{of_unit}"),
    "bool_type": _Words("is neither true nor false", "write true or false, without quotes"),
    "bool_parsing": _Words("is neither true nor false", "write true or false, without quotes"),
    "literal_error": _Words("is a word that is not known here", "write {words}"),
    "greater_than": _Words(_SMALL, "write more than {limit}{unit}"),
    "greater_than_equal": _Words(_SMALL, "write at least {limit}{unit}"),
    "less_than": _Words(_LARGE, "write less than {limit}{unit}"),
    "less_than_equal": _Words(_LARGE, "write at most {limit}{unit}"),
    "tuple_type": _LIST,
    "list_type": _LIST,
    "dict_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "path_type": _Words("is not a path", 'write a path in quotes, such as "/srv/drop"'),
}
"""Our words for each of pydantic's types of errors."""
_OTHER = _Words("can't be used here", "docs/settings.md says what {key} may be")

_UNITS = ("seconds", "days", "bytes")
"""The units that the names of keys have."""


def to_findings(error: ValidationError, source: Source) -> Iterator[Finding]:
    """Yield one finding per key for pydantic's errors; an error in [defaults] is not repeated for each inbox."""
    by_key: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for details in error.errors():
        by_key.setdefault(_key_of(details["loc"]), []).append(details)
    keys_in_defaults = {loc[1:] for loc in by_key if loc[:1] == ("defaults",)}
    for loc, errors in by_key.items():
        if not loc:
            yield from (_describe_dependent_limit(details, source) for details in errors)
        elif loc[:1] != ("inbox",) or loc[2:] not in keys_in_defaults:
            yield _to_finding(loc, errors, source(loc))


def _describe_dependent_limit(details: ErrorDetails, source: Source) -> Finding:
    """Return the finding of a limit that depends on another one: its message begins with its key."""
    where, _, problem = details["msg"].removeprefix("Value error, ").partition(": ")
    return Finding(f"{where} ({source(())})", problem, "change one of these two settings")


def _to_finding(loc: tuple[str, ...], errors: list[ErrorDetails], source: str) -> Finding:
    """Return the finding of one key. A value for which there are several types has an error for each."""
    key, first = ".".join(loc), errors[0]
    if loc[-1] == "steps" and len(first["loc"]) > len(loc):
        return _describe_step(loc, first, source)
    if first["type"] == "extra_forbidden" or loc[2:] == ("name",):
        where = _find_table(loc)
        remedy = f"move it to {where}" if where else suggest(loc[-1], _known_keys(loc), "remove it")
        return Finding(f"{key} ({source})", "is not a known setting here" if where else "is not a known setting", remedy)
    if first["type"] == "missing":
        remedy = 'set root = "/path/of/the/folder"' if loc[-1] == "root" else "set it"
        return Finding(f"{key} ({source})", "is missing", remedy)
    problem, remedy = _describe(first, key)
    other_words = [_describe(other, key)[1] for other in errors[1:] if other["type"] == "literal_error"]
    shown = "" if loc[-1] in _SECRET_KEYS else _show(first["input"])
    return Finding(f"{key}{shown} ({source})", problem, ", or ".join([remedy, *other_words]))


def _describe_step(loc: tuple[str, ...], error: ErrorDetails, source: str) -> Finding:
    """Return the finding of one step of a chain, whose list may have been written as ``handler`` or as ``steps``."""
    number, *inner = error["loc"][len(loc) :]
    where = f"{'.'.join(loc[:-1])}, step {int(number) + 1} of the chain"
    if not inner:
        remedy = 'write "module:function", or a table with the key command or url'
        return Finding(f"{where}{_show(error['input'])} ({source})", "is neither a text nor a table", remedy)
    key = str(inner[0])
    if error["type"] != "extra_forbidden":
        problem, remedy = _describe(error, key)
        return Finding(f"{where}, {key}{_show(error['input'])} ({source})", problem, remedy)
    if key == "task":
        problem, remedy = "can't be a step", "make it the handler of an inbox of its own: docs/chains.md"
    elif key in Inbox.model_fields and key not in ProgramKeys.model_fields:
        problem, remedy = "is no setting of a step", "move it beside handler: it is the inbox's, for the whole chain"
    else:
        problem, remedy = "is not a known setting", suggest(key, list(ProgramKeys.model_fields), "remove it")
    return Finding(f"{where}, {key} ({source})", problem, remedy)


def _show(value: object) -> str:
    """Return a value as it stands after its key; "" for a whole table, and for a URL with what may be a password."""
    try:
        text = str(value)
    except ValueError:  # Python refuses to print it
        return " = a number of thousands of digits"
    return "" if isinstance(value, dict) or ("://" in text and "@" in text) else f" = {text[:200]!r}"


def _describe(details: ErrorDetails, key: str) -> tuple[str, str]:
    """Return the problem and the remedy of one of pydantic's errors."""
    if details["type"] == "value_error":  # raised by a check of ours, in its own words
        return details["msg"].removeprefix("Value error, "), f"correct {key}"
    words, context = _WORDS.get(details["type"], _OTHER), details.get("ctx", {})
    words = _CODES if words is _LIST and key.endswith("_codes") else words
    limit = next((f"{context[name]:,.10g}".replace(",", "_") for name in ("gt", "ge", "lt", "le") if name in context), "")
    unit = next((f" {unit}" for unit in _UNITS if unit in key.rpartition(".")[2].split("_")), "")
    known = str(context.get("expected", "")).replace("'", '"')
    return words.problem, words.remedy.format(
        key=key, limit=limit, unit=unit, of_unit=f" of{unit}" if unit else "", words=known
    )


def _key_of(loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the settings key of an error's location, without the parts that pydantic appends for unions and lists."""
    parts = tuple(str(part) for part in loc if part != "[key]")
    return parts[: 3 if parts[:1] == ("inbox",) else 2]


def _known_keys(loc: tuple[str, ...]) -> list[str]:
    if len(loc) == 1:
        return list(Settings.model_fields)
    if loc[0] == "inbox":
        return [key for key in Inbox.model_fields if key != "name"]
    return list(_TABLES[loc[0]].model_fields) if loc[0] in _TABLES else []


def _find_table(loc: tuple[str, ...]) -> str:
    """Return where a key belongs that is in the wrong table, "" if it is known nowhere, or in several places."""
    key, own = loc[-1], loc[0] if len(loc) > 1 else ""
    tables = [f"[{name}]" for name, model in _TABLES.items() if key in model.model_fields and name != own]
    if key in Inbox.model_fields and key not in Rules.model_fields and own != "inbox" and key != "name":
        tables.append("[inbox.NAME]")
    if key in Settings.model_fields and own:
        tables.append("the top of the file, before the first table")
    return " or ".join(tables)


def suggest(key: str, known_keys: list[str], fallback: str) -> str:
    """Return a remedy that names the most similar known key, or the key without its unit suffix; else ``fallback``."""
    similar = difflib.get_close_matches(key, known_keys, n=1) or [known for known in known_keys if known.startswith(f"{key}_")]
    return f"did you mean {similar[0]}?" if similar else f"{fallback}; the keys are {', '.join(known_keys)}"
