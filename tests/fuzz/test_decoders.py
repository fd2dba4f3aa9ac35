"""Every decoder of what others can write raises nothing but the errors that it names: `make fuzz` feeds it a million inputs."""

import base64
import contextlib
import io
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from inboxd.broker import changes, counters, heartbeat, installations, leases
from inboxd.broker.installations import describe_installation, find_conflict
from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.console.log_reading import journalctl, records
from inboxd.content.detect import detect
from inboxd.errors import InvalidMessage, SettingsError
from inboxd.fs.syscalls import Disk
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, lone_file_from_bytes, outcome_from_wire, outcome_to_wire
from inboxd.messaging.payload import FilePart, Parcel, parcel_from_wire, parcel_to_wire
from inboxd.service import clock_guard
from inboxd.spool.error_note import format_note, parse_note, signature
from inboxd.spool.packed_version import PackedVersion
from inboxd.tasks.hardening.broadcast_filter import BroadcastFilter
from inboxd.tasks.hardening.message_check import parse_headers
from inboxd.tasks.outcomes.stored_result import is_final_result, is_killed_by_limit, stored_failure, stored_outcome
from inboxd.tasks.process_state.progress import unpack_records

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
"""Inputs for each decoder."""

P = "01a229bf67e04d2329a5b7746de7"
VERSION = PackedVersion(4, 1, 2, is_unsure=False)
PART = FilePart(b"sub/a.txt", "text/plain", 4, {"id": "x", "mtime": 1.0, "claimed-at": 2.0}, b"1234", VERSION)
PARCEL = parcel_to_wire(Parcel(P, "drop", "here", b"/srv/drop", (PART,)))
OUTCOME = outcome_to_wire(Outcome(P, "drop", 1, (FileOutcome(b"a", Verdict.DONE, None, {"x": [1]}, VERSION),)))
RESULT = {
    "status": "SUCCESS",
    "result": OUTCOME,
    "traceback": None,
    "children": [],
    "date_done": "2026-11-30T00:00:00",
    "task_id": P,
}
BROADCAST = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None}


def message(body: bytes, **headers: object) -> bytes:
    """Return a message as Kombu stores it."""
    common = {"id": P, "task": "inboxd.process", "lang": "py", "timelimit": [310, 300], "retries": 0, "root_id": P}
    properties = {
        "correlation_id": P,
        "delivery_info": {"exchange": "", "routing_key": "inboxd.work"},
        "body_encoding": "base64",
    }
    table = {
        "body": base64.b64encode(body).decode(), "content-encoding": "binary", "content-type": "application/x-msgpack",
        "headers": {**common, **headers}, "properties": {**properties, "delivery_tag": "t", "delivery_mode": 2, "priority": 0},
    }  # fmt: skip
    return json.dumps(table).encode()


TASK_MESSAGE = message(msgpack.packb([[PARCEL], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]))
NOTE = format_note(b"sub/a.txt", "no number", inbox="drop", parcel=P, attempts=3, failed_at=1.8e9, earlier=["earlier: y"])
LOG_LINE = b'{"timestamp": "2026-11-30T00:00:00.000000Z", "level": "info", "program": "p", "event": "file_done", "file": "a"}\n'
JOURNAL = {
    "MESSAGE": "file_done",
    "EVENT": "file_done",
    "FILE": "a",
    "PRIORITY": "6",
    "__REALTIME_TIMESTAMP": "1764460800000000",
}

leaf = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=12),
    st.binary(max_size=12), st.sampled_from(["", P, "drop", b"../x", b"/", b".", b"a\0b", "1e400", "done", -1, 2**40]),
)  # fmt: skip
anything = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.binary(max_size=4), inner, max_size=4),
)


@st.composite
def changed(draw: st.DrawFn, sample: object) -> object:
    """Return a copy of a valid object in which one place, or several, hold anything, or are gone."""

    def change(value: object, depth: int) -> object:
        if depth == 0 or draw(st.integers(0, 3)) == 0:
            return draw(anything)
        if isinstance(value, dict) and value:
            key = draw(st.sampled_from(sorted(value, key=str)))
            if draw(st.integers(0, 5)) == 0:
                return {other: value[other] for other in value if other != key}
            return {**value, key: change(value[key], depth - 1)}
        if isinstance(value, list) and value:
            index = draw(st.integers(0, len(value) - 1))
            return [*value[:index], change(value[index], depth - 1), *value[index + draw(st.integers(0, 1)) :]]
        return draw(anything)

    value = sample
    for _ in range(draw(st.integers(1, 3))):
        value = change(value, 5)
    return value


@st.composite
def spoiled(draw: st.DrawFn, sample: bytes) -> bytes:
    """Return valid bytes of which parts are replaced, repeated or gone; or any bytes."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=300))
    text = sample
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 20)))
        filler = draw(
            st.binary(max_size=8) | st.sampled_from([b"9" * 5000, b"[" * 3000, b'"', b"{", b"\\ud800", b"NaN", b"-1", b"e999"])
        )
        text = text[:start] + filler + text[end:]
    return text


def read_message(raw: bytes) -> None:
    parse_headers(raw, ["inboxd.process"])


def read_result(stored: Any) -> None:  # noqa: ANN401 - anything
    if isinstance(stored, dict) and isinstance(stored.get("status"), str):  # what results.py checks
        is_final_result(stored)
        stored_failure(stored)
        is_killed_by_limit(stored)
        stored_outcome(stored, P, "drop")


def read_note(raw: bytes) -> None:
    if note := parse_note(raw):
        format_note(note.path, note.reason, inbox="drop", parcel=P, attempts=note.attempts, failed_at=0.0, earlier=note.history)


def read_log_line(raw: bytes) -> None:
    if record := records.parse(raw):
        json.dumps(record.fields)


OBJECTS: dict[str, tuple[object, Callable[[Any], object], tuple[type[Exception], ...]]] = {
    "parcel": (PARCEL, parcel_from_wire, (InvalidMessage,)),
    "outcome": (OUTCOME, outcome_from_wire, (InvalidMessage,)),
    "result": (RESULT, read_result, (InvalidMessage,)),
    "journal entry": (JOURNAL, lambda entry: journalctl.to_record(entry) if isinstance(entry, dict) else None, ()),
}
OLD_NOTE = b"""\
sub/a.txt could not be processed.

Reason: no number
It was tried 3 times.
Before it was put back into inbox/:
  - 2026-11-01 10:00:00 +0000, tried once: y

What you can do:
  - Correct the cause named above, then move the file from failed/ back into inbox/, so that it is processed again.

For the administrator: inbox drop, 2026-11-02 10:00:00 +0000.
inboxd path: sub/a.txt
""" + signature(b"sub/a.txt", P)
BYTES: dict[str, tuple[bytes, Callable[[bytes], object], tuple[type[Exception], ...]]] = {
    "message": (TASK_MESSAGE, read_message, (InvalidMessage,)),
    "broadcast": (message(msgpack.packb(BROADCAST)), BroadcastFilter("all").accepts, ()),
    "lone file": (msgpack.packb([b"a", list(VERSION)]), lone_file_from_bytes, ()),
    "progress": (msgpack.packb([b"a", "done", None, None, None]), lambda raw: list(unpack_records(raw)), ()),
    "note": (NOTE, read_note, ()),
    "old note": (OLD_NOTE, read_note, ()),
    "log line": (LOG_LINE, read_log_line, ()),
}

fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize="FUZZ_EXAMPLES" not in os.environ,
    phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_others_wrote_raises_only_what_is_named(name: str) -> None:
    sample, decode, named = OBJECTS[name]
    decode(sample)

    @fuzz
    @given(changed(sample))
    def check(value: object) -> None:
        with contextlib.suppress(*named):
            decode(value)

    check()


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_others_wrote_raise_only_what_is_named(name: str) -> None:
    sample, decode, named = BYTES[name]
    decode(sample)

    @fuzz
    @given(spoiled(sample))
    def check(raw: bytes) -> None:
        with contextlib.suppress(*named):
            decode(raw)

    check()


INSTALLATION = b'1 99999999999999 ["m", "/f", "here", {"drop": ["/srv/drop", "a:b"]}]'
HEARTBEAT = json.dumps({"at": 1.0, "started_at": 0.5, "inboxes": {"drop": {
    "mode": "inotify", "mode_reason": "", "is_busy": False, "outage": None, "sub_mounts": [], "problems": [],
}}}).encode()  # fmt: skip


def read_lease(client: redis.Redis, raw: bytes) -> None:
    """Read a lease of which one field holds this."""
    fields = {"state": b"running", "until": b"5", "token": b"t", "attempt": b"1", "crashes": b"0", "lone_file": b""}
    name = sorted(fields)[len(raw) % len(fields)]
    client.hset(leases.KEY + P, mapping={**fields, name: raw})
    every = leases.Leases(client, keep_seconds=60.0)
    every.read([P])
    every.start(P, "t", 5.0)


def read_change(client: redis.Redis, raw: bytes) -> None:
    client.zadd(changes.FILED_KEY + "drop", {raw: 1.0})
    changes.Changes(client).due("drop")


def read_installation(client: redis.Redis, raw: bytes) -> None:
    client.hset(installations.KEY, raw[:3], raw)
    find_conflict(client, describe_installation(Settings(host="here", inbox={"drop": {"root": "/x"}}), Path("/f")))


def read_report(client: redis.Redis, raw: bytes) -> None:
    client.set(heartbeat.KEY + "here", raw)
    heartbeat.read_heartbeat(client, "here")


def read_counts(client: redis.Redis, raw: bytes) -> None:
    client.hset(counters.KEY + "here:drop", raw[: len(raw) // 2], raw[len(raw) // 2 :])
    counters.Counters(client, "here").read(["drop"])


STORED: dict[str, tuple[bytes, Callable[[redis.Redis, bytes], object]]] = {
    "lease": (b"1764460800000", read_lease),
    "change": (msgpack.packb([b"a", b"a", 1, 2, 3, 0, 1.0, 0]), read_change),
    "installation": (INSTALLATION, read_installation),
    "heartbeat": (HEARTBEAT, read_report),
    "counts": (b"outcome:done12.5", read_counts),
}


@pytest.mark.parametrize("name", STORED)
def test_a_value_in_redis_raises_nothing(name: str, valkey: redis.Redis) -> None:
    sample, read = STORED[name]
    read(valkey, sample)

    @fuzz
    @given(spoiled(sample))
    def check(raw: bytes) -> None:
        read(valkey, raw)

    check()


def test_a_record_of_the_clock_raises_nothing(tmp_path: Path) -> None:
    disk, file = Disk(), tmp_path / clock_guard.RECORD.decode()
    clock_guard.update_record(disk, tmp_path)
    sample = file.read_bytes()
    now = clock_guard.read_clock(disk)

    @fuzz
    @given(spoiled(sample))
    def check(raw: bytes) -> None:
        file.write_bytes(raw)
        record = clock_guard.load_record(disk, tmp_path)
        clock_guard.describe_pause(clock_guard.next_record(record, now))

    check()


def test_settings_raise_only_their_error(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    sample = (
        b'host = "h"\nredis.url = "redis://:x@h:1/0"\n[work]\nconcurrency = 1\n[inbox.drop]\nroot = "a"\ninclude = ["*.pdf"]\n'
    )

    @fuzz
    @given(spoiled(sample))
    def check(raw: bytes) -> None:
        file.write_bytes(raw)
        with contextlib.suppress(SettingsError):
            load_settings(file)

    check()


CONTENTS = {
    "zip": b"PK\x03\x04" + bytes(22) + b"\x08\0\0\0mimetypePK\x01\x02" + bytes(42) + b"word/PK\x05\x06" + bytes(18),
    "ole2": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    + bytes(22)
    + b"\x09\0"
    + bytes(44)
    + bytes(432)
    + b"\xfd\xff\xff\xff" * 128
    + b"R\0" * 300,
    "xml": b'<?xml version="1.0"?><!-- a --><!DOCTYPE a [<!ENTITY b "c">]><svg:svg xmlns:svg="http://www.w3.org/2000/svg"/>',
    "json": b'{"a": [1, "b\\"", null, {"c": []}]}\n{"a": 2}\n',
    "mail": b"From a\nReceived: b\n\tc\nFrom: d\nSubject: e\n\nf\n",
    "table": b'a;b;c\n"d;e";f;g\nh;i;j\n',
    "script": b"#! /usr/bin/env -S A=b python3 -u\n",
    "elf": b"\x7fELF\x02\1\1" + bytes(9) + b"\3\0" + bytes(40),
    "ftyp": b"\0\0\0\x18ftypmif1\0\0\0\0heicavif",
    "program": b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0",
    "tar": b"a".ljust(148, b"\0") + b"0000000\0" + bytes(356),
    "troff": b'.\\" a\n\n.\\" b\n.TH c\n',
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_content_type_of_any_bytes_is_detected_soon(name: str) -> None:
    @fuzz
    @given(spoiled(CONTENTS[name]), st.integers(0, 400), st.sampled_from(["", "a.csv", "a.\udcff"]))
    def check(raw: bytes, repeats: int, file_name: str) -> None:
        start = time.process_time()
        content_type = detect(io.BytesIO(raw * (1 + repeats)), file_name)
        assert re.fullmatch(r"[a-z]+/[A-Za-z0-9.+-]+", content_type)
        assert time.process_time() - start < 0.5

    check()
