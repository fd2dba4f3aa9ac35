"""Render the lives of files as lines for people, and as JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any

from inboxd.console.log_reading.records import Record
from inboxd.console.times import format_duration, to_local
from inboxd.console.trace.timeline import OUTCOME_BY_EVENT, FileLife
from inboxd.logs import events
from inboxd.logs.text import bytes_in_words, escape

VALUE_CHARS_MAX = 200

_KEY = re.compile(r"{(\w+)}")

_STEP_TEXTS = {
    events.FILE_CLAIMED: ("claimed", "found by {found_by}"),
    events.FILE_SENT: ("sent", "to the task {task}", "by the queue {queue}", "copy {copy}"),
    events.FILE_RELEASED: ("released", "back to inbox/: {why}"),
    events.FILE_CHANGED: ("changed", "after it was packed: {changes} of at most {changes_max} times"),
    events.OUTPUT_FILED: ("output", "left by the handler of {beside}", "as {filed}"),
    events.FILE_STAGED: ("uploaded", "to the store, for a worker on another host", "{took_ms} ms"),
    events.STAGE_UNAVAILABLE: ("store unavailable", "{error}", "{remedy}"),
    events.FILE_HANDLED: ("handled", "attempt {attempt}", "{took_ms} ms", "rejected: {rejected}", "raised: {raised}"),
    events.HANDLER_OUTPUT: ("printed", "{line}"),
    events.FILE_RETRIED: ("retried", "retry {retry} of {of}", "in {in_seconds} s"),
    events.FILE_DONE: ("done", "as done/{filed}"),
    events.FILE_FAILED: ("failed", "as failed/{filed}", "attempt {attempt}", "{reason}"),
    events.FILE_REFUSED: ("refused", "as failed/{filed}", "{reason}"),
    events.FILE_MISSING: ("missing", "{why}"),
    events.FILE_DENIED: ("denied", "{error}", "{remedy}"),
    events.FILE_EXPIRED: ("expired", "{why}"),
    events.PARCEL_REPUBLISHED: ("sent", "by the worker or the sweep", "files in the parcel: {files}"),
    events.DUPLICATE_IGNORED: ("duplicate ignored", "{why}"),
    events.LEASE_LOST: ("lease lost", "{why}"),
    events.PARCEL_CRASHED: ("crashed", "the worker process died: crash {crashes}", "{worker}"),
    events.PARCEL_RECOVERED: ("recovered", "by the sweep: {action}"),
    events.PARCEL_SPLIT: ("split", "into parcel {parcel}", "{why}"),
    events.PARCEL_BLOCKED: ("blocked", "{error}", "{remedy}"),
    events.MESSAGE_QUARANTINED: ("quarantined", "{why}", "{remedy}"),
}
"""For each event the step's name and its details. A detail is omitted if the record lacks one of its keys."""

_HIDDEN_KEYS = ("timestamp", "level", "program", "event", "module", "inbox", "file", "parcel", "exception")


def render_life(life: FileLife) -> Iterator[str]:
    """Yield a life's lines: a heading, the steps with the time since the previous one, and the outcome with the duration."""
    yield _render_heading(life)
    previous, day = life.steps[0].at, ""
    for step in life.steps:
        moment = to_local(step.at).isoformat(timespec="milliseconds")
        date = moment[:10] if moment[:10] != day else " " * 10
        since = "" if step is life.steps[0] else _signed_duration(step.at - previous)
        yield f"  {date} {moment[11:23]} {since:>12}  {_render_step(step)}"
        previous, day = step.at, moment[:10]
    yield f"  {_render_ending(life)}"


def _render_heading(life: FileLife) -> str:
    name = f"{life.inbox or '?'}:{life.file}" if life.file is not None else f"{life.inbox or '?'}: no file is named"
    size = life.last_value("size")
    parts = [
        bytes_in_words(size) if isinstance(size, int) else None,
        _with_key("sha256", life.last_value("sha256")),
        _with_key("id", life.last_value("file_id")),
    ]
    return "  ".join(map(_truncate, [name, *filter(None, parts), f"parcel {', '.join(life.parcels) or '?'}"]))


def _with_key(key: str, value: object) -> str | None:
    return None if value is None else f"{key} {value}"


def _render_step(step: Record) -> str:
    """Return a step's name, program and details; for an unknown event all its keys and values."""
    name, *parts = _STEP_TEXTS.get(step.event, (step.event,))
    if step.event in _STEP_TEXTS:
        texts = (_fill(part, step) for part in parts)
    else:
        texts = (f"{key}={value}" for key, value in step.fields.items() if key not in _HIDDEN_KEYS and value is not None)
    details = ", ".join(_truncate(text) for text in texts if text)
    return f"{_truncate(name):<12}  {_truncate(str(step.fields.get('program', ''))):<8}  {details}".rstrip()


def _fill(template: str, step: Record) -> str | None:
    """Return a template filled with the step's values; None if the step lacks one of its keys."""
    if any(step.fields.get(key) is None for key in _KEY.findall(template)):
        return None
    return _KEY.sub(lambda match: str(step.fields[match[1]]), template)


def _render_ending(life: FileLife) -> str:
    duration = format_duration(life.seconds)
    match life.outcome:
        case None:
            return f"no end is logged: in flight, or the line is lost (see inboxd explain); {duration} to the last step"
        case outcome if life.end is not None:
            return f"{outcome} after {duration}"
        case outcome:
            return f"{outcome}; {duration} from the first step to the last"


def render_lives_json(lives: list[FileLife]) -> str:
    """Return lives as one JSON object, in ASCII. The keys are an interface: some may be added, none renamed."""
    return json.dumps({"lives": [_life_to_json(life) for life in lives]}, indent=2, default=repr)


def _life_to_json(life: FileLife) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    previous = life.steps[0].at
    for step in life.steps:
        name = _STEP_TEXTS.get(step.event, (step.event,))[0]
        steps.append({**step.fields, "step": name, "after_seconds": round(step.at - previous, 6)})
        previous = step.at
    return {
        "inbox": life.inbox,
        "file": life.file,
        "parcels": life.parcels,
        "sha256": life.last_value("sha256"),
        "file_id": life.last_value("file_id"),
        "size": life.last_value("size"),
        "outcome": life.outcome,
        "filed": life.last_value("filed"),
        "began": life.steps[0].fields.get("timestamp"),
        "ended": life.end.fields.get("timestamp") if life.end else None,
        "seconds": round(life.seconds, 6),
        "steps": steps,
    }


def _signed_duration(seconds: float) -> str:
    """Return the time since the previous step, which is negative if two hosts' clocks differ."""
    return f"{'-' if seconds < 0 else '+'}{format_duration(abs(seconds))}"


def _truncate(text: str) -> str:
    escaped = escape(text)
    return escaped if len(escaped) <= VALUE_CHARS_MAX else escaped[: VALUE_CHARS_MAX - 3] + "..."


assert set(OUTCOME_BY_EVENT) <= set(_STEP_TEXTS)
