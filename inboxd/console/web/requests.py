"""Reading of queries and forms, whose values are bytes in percent encoding, and the making of links."""

import os
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, quote_from_bytes, unquote_to_bytes, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request

FIELDS_MAX = 20
BODY_BYTES_MAX = 65_536
FORM_TYPE = "application/x-www-form-urlencoded"


def query_of(request: Request) -> dict[str, str]:
    """Return the query's values; bytes that are not UTF-8 become surrogates, as in a path. Raises HTTPException."""
    return _parse(request.scope["query_string"])


async def form_of(request: Request) -> dict[str, str]:
    """Return a form's values, likewise. Raises HTTPException."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise HTTPException(415, "the request is not a form")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise HTTPException(413, "the form is too long")
    return _parse(body)


def _parse(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            raw.decode("ascii", "surrogateescape"), keep_blank_values=True, errors="surrogateescape", max_num_fields=FIELDS_MAX
        )
    except ValueError:
        raise HTTPException(400, "the request has too many fields") from None
    values = dict(pairs)
    if any("\0" in value for value in values.values()):
        raise HTTPException(400, "the request has a null character")
    return values


def path_of(values: Mapping[str, str]) -> bytes:
    """Return the bytes of a query's value ``path``. Raises HTTPException if there is none, or if it has lone surrogates."""
    try:
        path = os.fsencode(values.get("path", ""))
    except UnicodeEncodeError:
        raise HTTPException(400, "the path is not valid") from None
    if not path:
        raise HTTPException(400, "the request names no path")
    return path


def encode_path(path: bytes) -> str:
    """Return a path for a form's field, whose text can't have all bytes: in percent encoding, which the form encodes again."""
    return quote_from_bytes(path, safe="/")


def encoded_path_of(values: Mapping[str, str]) -> bytes:
    """Return the path that ``encode_path`` has put into a form's field ``path``. Raises HTTPException if there is none."""
    path = unquote_to_bytes(values.get("path", ""))
    if not path or b"\0" in path:
        raise HTTPException(400, "the request names no path")
    return path


def text_of(values: Mapping[str, str], key: str) -> str:
    """Return a value as text that a page can show: bytes that are not UTF-8 are replaced."""
    return values.get(key, "").strip().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def page_of(values: Mapping[str, str]) -> int:
    """Return the number of the wanted page, 1 if it is missing or no number."""
    text = values.get("page", "1")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 8 else 1  # noqa: PLR2004 - digits


def link(address: str, **values: str | bytes | int) -> str:
    """Return an address with a query: each value as its bytes in percent encoding; empty values are omitted."""
    given = {key: value if isinstance(value, bytes) else str(value) for key, value in values.items() if value not in ("", b"")}
    query = urlencode(given, quote_via=quote, errors="surrogateescape", safe="")
    return f"{address}?{query}" if query else address
