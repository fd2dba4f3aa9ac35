"""The lives of files as lines for people, and as JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any

from inboxd.console.logs.records import Record
from inboxd.console.times import format_duration, to_local
from inboxd.console.trace.timeline import OUTCOME_BY_EVENT, FileLife
from inboxd.logs import events
from inboxd.logs.text import escape

VALUE_CHARS_MAX = 200


_KEY = re.compile(r"{(\w+)}")


_STEP_TEXTS = {
    events.FILE_CLAIMED: ("claimed", "found by {found_by}"),
    events.FILE_RELEASED: ("released", "back to inbox/: {why}"),
    events.FILE_HANDLED: ("handled", "attempt {attempt}", "{took_ms} ms", "rejected: {rejected}", "raised: {raised}"),
    events.FILE_RETRIED: ("retried", "retry {retry} of {of}", "in {in_seconds} s"),
    events.FILE_DONE: ("done", "as done/{filed}"),
    events.FILE_FAILED: ("failed", "as failed/{filed}", "attempt {attempt}", "{reason}"),
    events.FILE_REFUSED: ("refused", "as failed/{filed}", "{reason}"),
    events.FILE_MISSING: ("missing", "{why}"),
    events.FILE_DENIED: ("denied", "{error}", "{remedy}"),
    events.FILE_EXPIRED: ("expired", "{why}"),
    events.PARCEL_SENT: ("sent", "by the worker or the sweep", "files in the parcel: {files}"),
    events.DUPLICATE_IGNORED: ("duplicate ignored", "{why}"),
    events.LEASE_LOST: ("lease lost", "{why}"),
    events.PARCEL_CRASHED: ("crashed", "its worker was ended: crash {crashes}", "{worker}"),
    events.PARCEL_RECOVERED: ("recovered", "by the sweep: {action}"),
    events.PARCEL_SPLIT: ("split", "into parcel {parcel}", "{why}"),
    events.PARCEL_BLOCKED: ("blocked", "{error}", "{remedy}"),
    events.MESSAGE_QUARANTINED: ("quarantined", "{why}", "{remedy}"),
}
"""For each step its word, and what is told of it: a part is left out where the line does not have its key."""


_HIDDEN_KEYS = ("timestamp", "level", "program", "event", "module", "inbox", "file", "parcel", "exception")


def render_life(one: FileLife) -> Iterator[str]:
    """Yield a life's lines: what it is of, its steps with the time since the one before, how long it took in all."""
    yield _render_heading(one)
    before, day = one.steps[0].at, ""
    for step in one.steps:
        moment = to_local(step.at).isoformat(timespec="milliseconds")
        date = moment[:10] if moment[:10] != day else " " * 10
        since = "" if step is one.steps[0] else _signed_duration(step.at - before)
        yield f"  {date} {moment[11:23]} {since:>12}  {_render_step(step)}"
        before, day = step.at, moment[:10]
    yield f"  {_render_ending(one)}"


def _render_heading(one: FileLife) -> str:
    name = f"{one.inbox or '?'}:{one.file}" if one.file is not None else f"{one.inbox or '?'}: no file is named"
    size = one.first_value("size")
    parts = [
        f"{size} bytes" if size is not None else None,
        _with_key("sha256", one.first_value("sha256")),
        _with_key("id", one.first_value("file_id")),
    ]
    return "  ".join(map(_truncate, [name, *filter(None, parts), f"parcel {', '.join(one.parcels) or '?'}"]))


def _with_key(key: str, value: object) -> str | None:
    return None if value is None else f"{key} {value}"


def _render_step(step: Record) -> str:
    """Return a step's word, its program and what else is known of it."""
    word, *parts = _STEP_TEXTS.get(step.event, (step.event,))
    if step.event in _STEP_TEXTS:
        found = (_fill(part, step) for part in parts)
    else:
        found = (f"{key}={value}" for key, value in step.fields.items() if key not in _HIDDEN_KEYS and value is not None)
    details = ", ".join(_truncate(text) for text in found if text)
    return f"{_truncate(word):<12}  {_truncate(str(step.fields.get('program', ''))):<8}  {details}".rstrip()


def _fill(part: str, step: Record) -> str | None:
    """Return a part with its keys' values; None if the step lacks one."""
    if any(step.fields.get(key) is None for key in _KEY.findall(part)):
        return None
    return _KEY.sub(lambda found: str(step.fields[found[1]]), part)


def _render_ending(one: FileLife) -> str:
    took = format_duration(one.seconds)
    match one.outcome:
        case None:
            return f"no end is logged: it is in flight, or that line is lost (see inboxd explain); {took} to the last step"
        case outcome if one.end is not None:
            return f"{outcome} after {took}"
        case outcome:
            return f"{outcome}; {took} from the first step to the last"


def render_lives_json(found: list[FileLife]) -> str:
    """Return lives as one JSON object, in ASCII. The keys are an interface: some may be added, none renamed."""
    return json.dumps({"lives": [_life_to_json(one) for one in found]}, indent=2, default=repr)


def _life_to_json(one: FileLife) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    before = one.steps[0].at
    for step in one.steps:
        steps.append(
            {**step.fields, "step": _STEP_TEXTS.get(step.event, (step.event,))[0], "after_seconds": round(step.at - before, 6)}
        )
        before = step.at
    return {
        "inbox": one.inbox,
        "file": one.file,
        "parcels": one.parcels,
        "sha256": one.first_value("sha256"),
        "file_id": one.first_value("file_id"),
        "size": one.first_value("size"),
        "outcome": one.outcome,
        "filed": one.first_value("filed"),
        "began": one.steps[0].fields.get("timestamp"),
        "ended": one.end.fields.get("timestamp") if one.end else None,
        "seconds": round(one.seconds, 6),
        "steps": steps,
    }


def _signed_duration(seconds: float) -> str:
    """Return the time since the step before; two hosts' clocks may differ, so that it can be below zero."""
    return f"{'-' if seconds < 0 else '+'}{format_duration(abs(seconds))}"


def _truncate(text: str) -> str:
    shown = escape(text)
    return shown if len(shown) <= VALUE_CHARS_MAX else shown[: VALUE_CHARS_MAX - 3] + "..."


assert set(OUTCOME_BY_EVENT) <= set(_STEP_TEXTS)
