"""Of Celery's remote control, a worker receives only what can't end it and what the settings allow."""

import base64
import gzip
import json
from typing import Any

import msgpack
import pytest
from structlog.testing import capture_logs

from inboxd.logs import events
from inboxd.tasks.hardening.broadcast_filter import BROADCAST_BYTES_MAX, READING_COMMANDS, BroadcastFilter

PING = {
    "method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None,
    "reply_to": {"exchange": "reply.inboxd.pidbox", "routing_key": "1"}, "ticket": "1",
}  # fmt: skip


def broadcast(command: object = None, /, **changes: object) -> bytes:
    """Return a broadcast as Kombu publishes it; ``changes`` replace parts of the envelope."""
    packed = msgpack.packb(PING if command is None else command)
    envelope: dict[str, Any] = {
        "body": base64.b64encode(packed).decode(), "content-encoding": "binary", "content-type": "application/x-msgpack",
        "headers": {"clock": 1, "expires": 1.0},
        "properties": {
            "delivery_mode": 2, "delivery_info": {"exchange": "inboxd.pidbox", "routing_key": ""}, "priority": 0,
            "body_encoding": "base64", "delivery_tag": "1",
        },
        **changes,
    }  # fmt: skip
    return json.dumps(envelope).encode()


@pytest.mark.parametrize("method", sorted(READING_COMMANDS))
def test_a_command_that_reads_is_accepted(method: str) -> None:
    assert BroadcastFilter("read").accepts(broadcast({**PING, "method": method}))


@pytest.mark.parametrize(
    "method",
    ["shutdown", "revoke", "terminate", "pool_shrink", "rate_limit", "add_consumer", "cancel_consumer", "hello", "time_limit"],
)
def test_a_command_that_changes_something_needs_a_setting(method: str) -> None:
    raw = broadcast({**PING, "method": method})

    assert not BroadcastFilter("read").accepts(raw)
    assert BroadcastFilter("all").accepts(raw)


REFUSED = {
    "not JSON": b"junk",
    "empty": b"",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no headers": broadcast(headers=None),
    "headers that are a list": broadcast(headers=[]),
    "no properties": broadcast(properties={}),
    "bad base64": broadcast(body="%%%"),
    "no body": broadcast(body=None),
    "not msgpack": broadcast(body=base64.b64encode(b"\xc1").decode()),
    "pickle": broadcast(**{"content-type": "application/x-python"}),
    "compressed": broadcast(
        headers={"compression": "application/x-gzip"}, body=base64.b64encode(gzip.compress(b"\0" * 10**6)).decode()
    ),
    "a body that is a list": broadcast([]),
    "no method": broadcast({"arguments": {}}),
    "an unknown method": broadcast({"method": "junk"}),
    "a method that is a list": broadcast({**PING, "method": ["ping"]}),
    "arguments that are a list": broadcast({**PING, "arguments": [1]}),
    "a number as destination": broadcast({**PING, "destination": 7}),
    "a list as pattern": broadcast({**PING, "pattern": [], "matcher": []}),
    "reply_to that is a text": broadcast({**PING, "reply_to": "x"}),
    "an address without a key": broadcast({**PING, "reply_to": {"exchange": "x"}}),
    "another key": broadcast({**PING, "junk": 1}),
    "deep headers": broadcast(headers={"a": [[[[[[[[[1]]]]]]]]]}),
    "too large": broadcast({**PING, "ticket": "x" * BROADCAST_BYTES_MAX}),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("remote_control", ["read", "all"])
def test_a_broadcast_that_could_end_the_worker_is_refused(name: str, remote_control: Any) -> None:  # noqa: ANN401
    assert not BroadcastFilter(remote_control).accepts(REFUSED[name])


def test_a_flood_of_refused_broadcasts_is_logged_once_for_each_reason() -> None:
    screen = BroadcastFilter("read")

    with capture_logs() as lines:
        for _ in range(100):
            screen.accepts(b"[]")
            screen.accepts(broadcast({**PING, "method": "shutdown"}))

    assert [line["event"] for line in lines] == [events.BROADCAST_REFUSED] * 2
