"""Checks of one message, as Kombu stores it in a queue or publishes it: whether a worker may receive it. Pure."""

import binascii
from base64 import b64decode
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgpack
from kombu.utils.json import loads

from inboxd.errors import InvalidMessage
from inboxd.logs.text import escape
from inboxd.messaging.nesting import is_deeper
from inboxd.messaging.other_app.task_message import JSON_TASKS
from inboxd.messaging.payload import INLINE_BYTES_MAX

MESSAGE_BYTES_MAX = 2 * INLINE_BYTES_MAX
"""Maximum size of a message; the largest parcel, in base64 and with its headers, stays below it."""
DEPTH_MAX = 8
"""Maximum nesting of the headers: deeper ones could crash the worker."""

JSON_BYTES_MAX = 64 * 1024
"""Maximum size of a callback in JSON: it has the name of one file."""

_DECODE_ERRORS = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
_MSGPACK, _JSON = ("application/x-msgpack", "binary"), ("application/json", "utf-8")


def parse_headers(raw: bytes, known_tasks: Collection[str]) -> Mapping[str, Any]:
    """Return the headers of a task's message. Raises InvalidMessage if a worker must not receive it."""
    message = parse_message(raw, MESSAGE_BYTES_MAX, json_tasks=JSON_TASKS)
    headers: Mapping[str, Any] = message["headers"]
    _check_task_headers(headers, known_tasks)
    match decode_body(message):
        case [list(), dict(), dict()]:
            return headers
        case _:
            raise InvalidMessage("the body is not a list of arguments, keyword arguments and callbacks")


def parse_message(raw: bytes, bytes_max: int, json_tasks: Collection[str] = ()) -> Mapping[str, Any]:
    """Return a message whose envelope is as inboxd's programs make it; its headers are a map. Raises InvalidMessage.

    ``json_tasks`` are those whose messages may be JSON: the callbacks, which an app without msgpack sends.
    """
    if len(raw) > bytes_max:
        raise InvalidMessage(f"the message has {len(raw)} bytes; the limit is {bytes_max}")
    try:
        message = loads(raw)
    except _DECODE_ERRORS as error:
        raise InvalidMessage(f"the message is not JSON: {error}") from error
    headers, properties = _expect_map(message, "headers"), _expect_map(message, "properties")
    _check_properties(properties)
    if headers.get("compression") is not None:
        raise InvalidMessage("the message is compressed, which inboxd never does: decompressing could exhaust the memory")
    if is_deeper(headers, DEPTH_MAX):
        raise InvalidMessage(f"the headers are nested more than {DEPTH_MAX} levels deep")
    is_json = _content(message) == _JSON and headers.get("task") in json_tasks and len(raw) <= JSON_BYTES_MAX
    if not is_json and _content(message) != _MSGPACK:
        raise InvalidMessage(f"the content is not {_MSGPACK[0]} in binary encoding")
    return message  # type: ignore[no-any-return]


def _content(message: Mapping[str, Any]) -> tuple[object, object]:
    return message.get("content-type"), message.get("content-encoding")


def decode_body(message: Mapping[str, Any]) -> object:
    """Return a message's content. Raises InvalidMessage."""
    body = message.get("body")
    if not isinstance(body, str):
        raise InvalidMessage("the message has no body")
    name, decode = ("JSON", loads) if _content(message) == _JSON else ("msgpack", partial(msgpack.unpackb, raw=False))
    try:
        return decode(b64decode(body, validate=True))
    except binascii.Error as error:
        raise InvalidMessage(f"the body is not base64: {error}") from error
    except (*_DECODE_ERRORS, msgpack.UnpackException) as error:
        raise InvalidMessage(f"the body is not {name}: {error}") from error


def _expect_map(value: object, key: str) -> Mapping[str, Any]:
    part = value.get(key) if isinstance(value, dict) else None
    if not isinstance(part, dict):
        raise InvalidMessage(f"the message has no {key}")
    return part


def _check_properties(properties: Mapping[str, Any]) -> None:
    delivery = _expect_map(properties, "delivery_info")
    texts = (properties.get("delivery_tag"), delivery.get("exchange"), delivery.get("routing_key"))
    if not all(_is_printable_ascii(text) for text in texts):
        raise InvalidMessage("the delivery_tag, exchange or routing_key is missing or not printable ASCII")
    if properties.get("body_encoding") != "base64":
        raise InvalidMessage("the body_encoding is not base64")


def _check_task_headers(headers: Mapping[str, Any], known_tasks: Collection[str]) -> None:
    if not headers.get("id") or not _is_printable_ascii(headers["id"]):
        raise InvalidMessage("the id header is missing or not printable ASCII")
    if headers.get("task") not in known_tasks:
        raise InvalidMessage(f"no task named {escape(str(headers.get('task')))[:200]} is registered")
    limits = headers.get("timelimit") or [None, None]
    if not (isinstance(limits, list) and len(limits) == len("hs") and all(_is_number(limit) for limit in limits)):
        raise InvalidMessage("the timelimit header is not a list of two numbers")
    if not isinstance(headers.get("retries") or 0, int):
        raise InvalidMessage("the retries header is not an integer")
    if not all(_is_timestamp(headers.get(name)) for name in ("eta", "expires")):
        raise InvalidMessage("the eta or expires header is not an ISO 8601 time")


def _is_printable_ascii(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_timestamp(value: object) -> bool:
    try:
        return value is None or (isinstance(value, str) and bool(datetime.fromisoformat(value)))
    except ValueError:
        return False


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
