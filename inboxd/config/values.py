"""Types of the settings' values: what may be written for each, and the checks of texts with a form of their own."""

import ipaddress
import re
from pathlib import PurePath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from inboxd.config.units import expand_home, to_bytes, to_days, to_list, to_seconds

Seconds = Annotated[float, BeforeValidator(to_seconds), Field(ge=0, le=86_400 * 30, allow_inf_nan=False)]
Interval = Annotated[float, BeforeValidator(to_seconds), Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, BeforeValidator(to_bytes), Field(ge=0)]
Days = Annotated[float, BeforeValidator(to_days), Field(ge=0, allow_inf_nan=False)]
Patterns = Annotated[tuple[str, ...], BeforeValidator(to_list)]
Folder = Annotated[PurePath, AfterValidator(expand_home)]
NotifyKind = Literal["failed", "stuck", "paused", "recovered"]


def check_handler_name(value: str) -> str:
    """Return the name of a handler. Raises ValueError."""
    if not re.fullmatch(r"[\w.]+:[\w.]+", value):
        raise ValueError("a handler has the form module:function, such as inboxd.handlers:describe")
    return value


def check_redis_url(value: str) -> str:
    """Return a URL of Redis; "" is the embedded server. Raises ValueError."""
    if value.startswith(("sentinel:", "redis+sentinel:", "sentinels:")):
        raise ValueError(
            "Sentinel is not supported: after a failover the new master may lack messages, and the old one be written to; name "
            "the address of the master, such as a DNS name or a proxy that follows it"
        )
    return value


def check_namespace(value: str) -> str:
    """Return a namespace in Redis; "" is none. Raises ValueError."""
    if value and (not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", value) or value.startswith(("inboxd", "celery-task-meta"))):
        raise ValueError("a namespace has up to 32 of a-z, 0-9, - and _, and does not begin with inboxd or celery-task-meta")
    return value


def check_stage_url(value: str) -> str:
    """Return the URL of a store; "" is none. Raises ValueError."""
    if not value:
        return value
    url = urlsplit(value)
    if not re.fullmatch(r"[a-z][a-z0-9+]*", url.scheme) or "://" not in value:
        raise ValueError("a store has a URL such as s3://bucket/folder, sftp://user@host/folder or file:///mnt/folder")
    if url.password is not None:
        raise ValueError("a URL is shown in logs: write the password into the file that stage.secret_file names")
    if url.query or url.fragment:
        raise ValueError("a URL has no options: write them into stage.options, and secret ones into the file of secret_file")
    if url.scheme == "file" and (url.netloc or not url.path.strip("/")):
        raise ValueError("a folder has the form file:///mnt/folder")
    if url.scheme != "file" and not url.netloc:
        raise ValueError("a store has a bucket or a host, such as s3://bucket/folder")
    return value.rstrip("/")


NOTE_LANGUAGES = ("en", "de")


def expand_notes(value: str) -> str:
    """Return a language of notes, or a folder with ``~`` expanded. Raises ValueError."""
    if not value:
        raise ValueError("the notes' language, en or de, or a folder with a file notes.txt")
    return value if value in NOTE_LANGUAGES else str(expand_home(PurePath(value)))


def check_header_name(value: str) -> str:
    """Return the name of an HTTP header; "" is none. Raises ValueError."""
    if not re.fullmatch(r"([A-Za-z][A-Za-z0-9-]{0,63})?", value):
        raise ValueError("a header's name has letters, digits and -, such as X-Remote-User")
    return value


def parse_address(listen: str) -> tuple[str, int]:
    """Return host and port of an address such as "127.0.0.1:9464" or "[::1]:9464". Raises ValueError."""
    host, _, port = listen.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        raise ValueError("an address has the form host:port, such as 127.0.0.1:9464")
    bare = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    return ("127.0.0.1" if bare == "localhost" else str(ipaddress.ip_address(bare))), int(port)
