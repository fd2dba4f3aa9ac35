"""Render records: a line each for people, JSON for programs. Control characters are escaped, so no name can forge a line."""

import json
import math
from functools import lru_cache

from inboxd.console.log_reading.records import Record
from inboxd.console.times import to_local
from inboxd.logs import render

_ENCODER = json.JSONEncoder(default=repr)


def render_line(record: Record, *, with_date: bool = True) -> str:
    """Return a record as one line: the local date and time, then as inboxd/logs renders it on a terminal."""
    second = math.floor(record.at)
    moment = f"{_local_time(second)}.{round((record.at - second) * 1e6) // 1000:03d}"
    line = render.render_read_back({**record.fields, "timestamp": moment})
    return f"{moment[:10]} {line}" if with_date else line


def render_json(record: Record) -> str:
    """Return a record as one line of JSON, in ASCII."""
    return _ENCODER.encode(record.fields)


@lru_cache(maxsize=1000)
def _local_time(at: int) -> str:
    """Return the local date and time of unix seconds; cached, since the zone lookup takes longer than parsing a line."""
    return to_local(at).isoformat()[:19]
