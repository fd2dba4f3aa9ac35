"""How records and lives are shown: a line each for people, JSON for programs. No name can forge a line or move the cursor."""

import json
import math
from functools import lru_cache

from inboxd.console.logs.records import Record
from inboxd.console.times import to_local
from inboxd.logs import render

_ENCODER = json.JSONEncoder(default=repr)


def render_line(record: Record) -> str:
    """Return a record on one line: the local date and time, then as spool/log.py shows it on a terminal."""
    second = math.floor(record.at)
    moment = f"{_to_the_second(second)}.{round((record.at - second) * 1e6) // 1000:03d}"
    return f"{moment[:10]} {render.render_read_back({**record.fields, 'timestamp': moment})}"


def render_json(record: Record) -> str:
    """Return a record as one line of JSON, in ASCII."""
    return _ENCODER.encode(record.fields)


@lru_cache(maxsize=1000)
def _to_the_second(at: int) -> str:
    """Return the local date and time: looking up the zone for each line would take longer than reading it."""
    return to_local(at).isoformat()[:19]
