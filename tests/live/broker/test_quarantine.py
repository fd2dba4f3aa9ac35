"""Messages that no worker may process are quarantined and logged, and their files are processed again."""

import base64
import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
WORK = "inboxd.work"
BODY = base64.b64encode(msgpack.packb([[{}], {}, {}])).decode()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield a stand whose queue receives invalid messages; its worker must survive all of them."""
    with Stand(tmp_path_factory.mktemp("invalid")) as new_stand:
        yield new_stand.start()


def message(**changes: object) -> dict[str, Any]:
    """Return a message in Celery's format, with changed headers or, for ``body`` and the like, changed outer keys."""
    headers = {"lang": "py", "task": "inboxd.process", "id": "an id", "timelimit": [None, None], "retries": 0}
    outer = {key: changes.pop(key) for key in ("body", "properties", "content-type") if key in changes}
    return {
        "body": BODY,
        "content-encoding": "binary",
        "content-type": "application/x-msgpack",
        "headers": {**headers, **changes},
        "properties": {
            "delivery_info": {"exchange": "", "routing_key": WORK},
            "delivery_tag": "a tag",
            "body_encoding": "base64",
        },
        **outer,
    }


RAISING_WORKER = """
from celery.worker import strategy
from inboxd.celery import app

def raise_error(request, **_):
    if request.name == "inboxd.process":
        raise {error}("in the main process")

strategy.signals.task_received.send = raise_error
"""


def body(value: object) -> str:
    return base64.b64encode(msgpack.packb(value)).decode()


BOMB = base64.b64encode(gzip.compress(bytes(50_000_000))).decode()
INVALID_MESSAGES = {
    "not JSON": b"\xff\xfe{",
    "a list": b"[1,2]",
    "a deep list": b"[" * 100_000,
    "nothing in it": b"{}",
    "JSON that Kombu would decode": b'{"headers": {"__type__": "datetime", "__value__": "x"}}',
    "a map for a body": message(body=body({})),
    "a body of one": message(body=body([1])),
    "a body whose arguments are no list": message(body=body([1, 2, 3])),
    "bad base64": message(body="*" * 9),
    "bad msgpack": message(body=base64.b64encode(b"\xc1").decode()),
    "a time limit of strings": message(timelimit=["a", "b"]),
    "an unknown task": message(task="nobody.knows"),
    "a task of Celery's own": message(task="celery.map"),
    "a compressed body": message(compression="application/x-gzip", body=BOMB),
    "no delivery tag": message(properties={"body_encoding": "base64", "delivery_info": {}}),
    "JSON content": message(body=base64.b64encode(b"[[{}], {}, {}]").decode(), **{"content-type": "application/json"}),
    "pickle": message(**{"content-type": "application/x-python-serialize"}),
}


@pytest.mark.parametrize("invalid", INVALID_MESSAGES.values(), ids=INVALID_MESSAGES.keys())
def test_an_invalid_message_is_quarantined_and_the_worker_continues(invalid: bytes | dict[str, Any], stand: Stand) -> None:
    raw = invalid if isinstance(invalid, bytes) else json.dumps(invalid).encode()
    worker_pid, length = stand.worker.pid, stand.client.llen("inboxd.quarantine")
    logged_before = len(stand.log_events("message_quarantined"))

    stand.client.lpush(WORK, raw)
    name = b"after %d.txt" % time.monotonic_ns()
    stand.drop(name, b"content")
    stand.wait_until(lambda: name in stand.names("done"))

    assert stand.worker.running
    assert stand.worker.pid == worker_pid
    assert len(stand.log_events("message_quarantined")) == logged_before + 1
    assert stand.client.llen("inboxd.quarantine") == length + 1
    assert stand.client.lindex("inboxd.quarantine", 0) == raw[:65_536]
    stand.wait_until(lambda: stand.client.hlen("inboxd.unacked") == 0)


def test_messages_are_filtered_for_a_handler_that_uses_kombu_when_it_is_imported(make_stand: MakeStand) -> None:
    """Kombu keeps the transport class of its first connection for all later ones of the process."""
    stand = make_stand(defaults={"handler": "connecting:handle"})
    (stand.folder / "connecting.py").write_text(
        'import kombu\nkombu.Connection("redis://127.0.0.1:1").get_transport_cls()\ndef handle(file): pass\n'
    )
    stand.start()

    stand.client.lpush(WORK, b"{}")

    stand.wait_until(lambda: stand.log_events("message_quarantined") != [])
    stand.drop(b"after.txt", b"content")
    stand.wait_until(lambda: b"after.txt" in stand.names("done"))


def test_the_file_of_a_corrupted_message_is_processed_again(make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.redis.start()
    stand.watcher.start()
    stand.drop(b"corrupted.txt", b"content")
    stand.wait_until(lambda: stand.client.llen(WORK) == 1)
    sent = json.loads(stand.client.rpop(WORK))
    stand.client.lpush(WORK, json.dumps({**sent, "body": body([1])}))

    stand.worker.start()
    stand.beat.start()
    stand.wait_until(stand.has_no_pending_files)

    assert stand.names("done") == {b"corrupted.txt"}
    assert [line["parcel"] for line in stand.log_events("message_quarantined")] == [sent["headers"]["id"]]


def test_a_message_that_repeatedly_kills_its_worker_is_quarantined_and_its_file_fails(make_stand: MakeStand) -> None:
    stand = make_stand(work={"crashes_max": 1})
    (stand.folder / "raising_worker.py").write_text(RAISING_WORKER.format(error="MemoryError"))
    stand.worker.argv = tuple("raising_worker" if word == "inboxd" else word for word in stand.worker.argv)
    stand.start()

    stand.drop(b"deadly.txt", b"content")
    deaths = 0
    deadline = time.monotonic() + 180
    while not stand.has_no_pending_files():
        assert time.monotonic() < deadline, stand.describe_state()
        if not stand.worker.running:
            deaths += 1
            stand.worker.spawn()
        time.sleep(0.05)

    assert 3 <= deaths <= 8
    assert stand.names("failed") == {b"deadly.txt", b"deadly.txt.error.txt"}


def test_a_message_on_which_celery_raises_is_quarantined_its_file_fails_and_the_worker_continues(
    make_stand: MakeStand,
) -> None:
    stand = make_stand(work={"crashes_max": 2})
    (stand.folder / "raising_worker.py").write_text(RAISING_WORKER.format(error="ValueError"))
    stand.worker.argv = tuple("raising_worker" if word == "inboxd" else word for word in stand.worker.argv)
    stand.start()
    worker_pid = stand.worker.pid

    stand.drop(b"odd.txt", b"content")
    stand.wait_until(lambda: stand.names("failed") == {b"odd.txt", b"odd.txt.error.txt"})
    stand.wait_until(stand.has_no_pending_files)

    assert stand.worker.running
    assert stand.worker.pid == worker_pid
    assert len(stand.log_events("message_quarantined")) == 2
    assert stand.client.llen("inboxd.quarantine") == 2
    stand.wait_until(lambda: stand.client.hlen("inboxd.unacked") == 0)
