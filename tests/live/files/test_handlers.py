"""Handlers that reject, raise, hang and die: what becomes of their files, and of the others."""

import base64
import json
import time
from collections.abc import Iterator

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

RETRIES = 3
STUBBORN = b"stubborn.txt"
INBOXES = {
    "drop": {"retries": RETRIES},
    "patient": {"retries": 3, "retry_backoff_seconds": 4.0},
    "hasty": {"retries": 0, "time_limit_seconds": 1},
    "company": {"retries": 1},
}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("handlers"), INBOXES, work={"crashes_max": 2}) as made:
        made.worker.argv = (*made.worker.argv[:-1], "3")  # one slot is taken by the stubborn file
        made.start()
        # the hard limit comes 10 s after the soft one: begun first, asked about last
        made.drop(STUBBORN, b"be_stubborn", "hasty")
        yield made


def failed(stand: Stand, name: bytes, inbox: str = "drop") -> bool:
    return stand.path("failed", name, inbox).exists()


def done(stand: Stand, name: bytes, inbox: str = "drop") -> bool:
    return stand.path("done", name, inbox).exists()


def test_a_rejected_file_fails_at_once_with_a_note_that_a_layman_understands(stand: Stand) -> None:
    stand.drop(b"sub/invoice 7.txt", b"reject the invoice has no number", "patient")
    dropped = time.monotonic()
    stand.wait_until(lambda: failed(stand, b"sub/invoice 7.txt", "patient"))

    assert time.monotonic() - dropped < 3.5  # the first retry's wait is 4 s
    note = stand.note(b"sub/invoice 7.txt", "patient")
    assert note.startswith("sub/invoice 7.txt could not be processed.\n\nReason: the invoice has no number\n")
    assert "What you can do:" in note
    assert "Traceback" not in note
    assert "RejectFile" not in note
    assert [seen.attempt for seen in stand.seen(b"sub/invoice 7.txt")] == [1]
    assert stand.path("failed", b"sub/invoice 7.txt", "patient").read_bytes() == b"reject the invoice has no number"


def test_a_file_whose_handler_raises_twice_is_done_after_exactly_two_retries(stand: Stand) -> None:
    stand.drop(b"twice.txt", b"raise_twice")
    stand.wait_until(lambda: done(stand, b"twice.txt"))

    calls = stand.seen(b"twice.txt")
    assert [seen.attempt for seen in calls] == [1, 2, 3]
    assert len({seen.id for seen in calls}) == 1
    assert len(stand.log_events("file_retried", stand.worker)) >= 2
    assert not failed(stand, b"twice.txt")


def test_a_file_whose_handler_always_raises_fails_after_all_its_attempts(stand: Stand) -> None:
    stand.drop(b"never.txt", b"always_raise the archive is away")
    stand.wait_until(lambda: failed(stand, b"never.txt"))

    assert [seen.attempt for seen in stand.seen(b"never.txt")] == [1, 2, 3, 4]
    note = stand.note(b"never.txt")
    assert "the archive is away" in note
    assert f"It was tried {RETRIES + 1} times." in note
    assert "Traceback" not in note


def test_a_retried_message_shows_nothing_of_the_files_content(stand: Stand) -> None:
    content = b"always_raise\nthe secret recipe"
    stand.drop(b"recipe.txt", content, "patient")
    stand.wait_until(lambda: stand.log_events("file_retried", stand.worker) and stand.seen(b"recipe.txt"))

    stand.wait_until(lambda: _messages_of(stand, stand.seen(b"recipe.txt")[0].parcel, retries=1), 3.0)
    (message,) = _messages_of(stand, stand.seen(b"recipe.txt")[0].parcel, retries=1)

    assert content in base64.b64decode(message["body"])  # it is the right message, and nowhere else:
    message.pop("body")
    assert "secret recipe" not in json.dumps(message)
    assert message["headers"]["argsrepr"] == stand.seen(b"recipe.txt")[0].parcel
    assert "secret recipe" not in stand.worker.text()


def _messages_of(stand: Stand, parcel: str, retries: int) -> list[dict[str, dict[str, object]]]:
    """Find the task's messages where a worker has them (unacknowledged), or where they wait for one."""
    raw = [json.loads(held)[0] for held in stand.client.hvals("inboxd.unacked")]
    raw += [json.loads(waiting) for waiting in stand.client.lrange("inboxd.work", 0, -1)]
    return [m for m in raw if m["headers"]["id"] == parcel and m["headers"]["retries"] == retries]


def test_one_bad_file_among_fifty_holds_nobody_up(stand: Stand) -> None:
    _warm_up(stand, "company")
    content = {b"%d.txt" % number: b"good %d" % number for number in range(50)}
    bad = b"bulk/25 bad.txt"

    good = stand.drop_folder(b"bulk", {**content, b"25 bad.txt": b"always_raise broken"}, "company")
    del good[bad]
    begun = time.monotonic()
    stand.wait_until(lambda: good.items() <= stand.tree("done", "company").items())
    took = time.monotonic() - begun
    stand.wait_until(lambda: failed(stand, bad, "company"))

    assert took < 3
    first, second = stand.seen(bad)
    company = [seen for seen in stand.seen(b"bulk/") if seen.parcel == first.parcel]
    assert len(company) > 1, "it was not in company, so this test has shown nothing"
    assert second.parcel != first.parcel
    assert [len(stand.seen(name)) for name in good] == [1] * 50
    assert "broken" in stand.note(bad, "company")
    stand.wait_until(lambda: stand.is_at_rest("company"))


def test_a_file_that_kills_its_worker_fails_alone(stand: Stand) -> None:
    _warm_up(stand, "company")
    main = stand.worker.pid
    content = {b"%d.txt" % number: b"good %d" % number for number in range(20)}
    guilty = b"trap/10 guilty.txt"

    good = stand.drop_folder(b"trap", {**content, b"10 guilty.txt": b"die"}, "company")
    del good[guilty]
    stand.wait_until(lambda: good.items() <= stand.tree("done", "company").items())
    stand.wait_until(lambda: failed(stand, guilty, "company"))

    calls = stand.seen(guilty)
    assert len({seen.parcel for seen in calls}) == 2, "first in company, then alone"
    assert 2 <= len(calls) <= 3
    assert "the worker process died" in stand.note(guilty, "company")
    assert all(len(stand.seen(name)) <= 2 for name in good)
    assert stand.worker.pid == main
    assert stand.worker.running
    stand.wait_until(lambda: stand.is_at_rest("company"))


@pytest.mark.parametrize(("command", "reason"), [(b"exit", "SystemExit: 3"), (b"memory", "MemoryError")])
def test_not_even_a_handler_that_wants_to_end_the_process_ends_it(stand: Stand, command: bytes, reason: str) -> None:
    main = stand.worker.pid
    name = command + b".txt"

    stand.drop(name, command)
    stand.wait_until(lambda: failed(stand, name))
    stand.drop(name + b".after", b"the next one")
    stand.wait_until(lambda: done(stand, name + b".after"))

    assert [seen.attempt for seen in stand.seen(name)][: RETRIES + 1] == [1, 2, 3, 4]
    assert reason in stand.note(name)
    assert stand.worker.pid == main


def test_a_handler_that_takes_too_long_is_stopped_and_its_file_fails(stand: Stand) -> None:
    stand.drop(b"long.txt", b"sleep 20", "hasty")
    dropped = time.monotonic()
    stand.wait_until(lambda: failed(stand, b"long.txt", "hasty"))

    assert time.monotonic() - dropped < 5
    assert "processing took longer than 1 s" in stand.note(b"long.txt", "hasty")
    assert len(stand.seen(b"long.txt")) == 1


def test_a_handler_that_ignores_its_time_limit_is_killed_and_its_file_filed_once(stand: Stand) -> None:
    stand.wait_until(lambda: stand.is_at_rest("hasty"), 60)

    assert failed(stand, STUBBORN, "hasty")
    filed = stand.names("failed", "hasty") | stand.names("done", "hasty")
    assert {name for name in filed if name.startswith(b"stubborn")} == {STUBBORN, STUBBORN + b".error.txt"}
    assert 1 <= len(stand.seen(STUBBORN)) <= 2
    note = stand.note(STUBBORN, "hasty")
    assert "the worker process died" in note or "took longer" in note


def _warm_up(stand: Stand, inbox: str) -> None:
    """Teach the inbox that its handler is quick: only then do files share parcels."""
    for number in range(8):
        name = b"warm %d-%d.txt" % (number, time.monotonic_ns())
        stand.drop(name, b"warm", inbox)
        stand.wait_until(lambda name=name: done(stand, name, inbox))
