"""Handlers that reject, raise, hang or kill their process fail only their own file."""

import base64
import json
import time
from collections.abc import Iterator

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

RETRIES = 3
IGNORES_LIMIT = b"ignores limit.txt"
INBOXES = {
    "drop": {"retries": RETRIES},
    "slow_retries": {"retries": 3, "retry_backoff_seconds": 50.0, "retry_backoff_max_seconds": 50.0},
    "short_limit": {"retries": 0, "time_limit_seconds": 1},
    "shared": {"retries": 1},
}


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with Stand(tmp_path_factory.mktemp("handlers"), INBOXES, work={"crashes_max": 2}) as new_stand:
        new_stand.worker.argv = (*new_stand.worker.argv[:-1], "3")  # IGNORES_LIMIT occupies one slot
        new_stand.start()
        # the hard time limit is 10 s after the soft one: started first, checked in the last test
        new_stand.drop(IGNORES_LIMIT, b"ignore_stop", "short_limit")
        yield new_stand


def is_failed(stand: Stand, name: bytes, inbox: str = "drop") -> bool:
    return stand.path("failed", name, inbox).exists()


def is_done(stand: Stand, name: bytes, inbox: str = "drop") -> bool:
    return stand.path("done", name, inbox).exists()


def test_a_rejected_file_fails_without_retry_and_its_error_note_has_no_technical_terms(stand: Stand) -> None:
    stand.drop(b"sub/invoice 7.txt", b"reject the invoice has no number", "slow_retries")
    dropped_at = time.monotonic()
    stand.wait_until(lambda: is_failed(stand, b"sub/invoice 7.txt", "slow_retries"))

    assert time.monotonic() - dropped_at < 45  # a retry would be 50 s later
    note = stand.note(b"sub/invoice 7.txt", "slow_retries")
    assert note.startswith("sub/invoice 7.txt was not accepted.\n\nReason: the invoice has no number\n")
    assert "What you can do:" in note
    assert "Traceback" not in note
    assert "RejectFile" not in note
    assert "Kind: rejected\nAttempts: 1\nReason: the invoice has no number\n" in note
    assert [call.attempt for call in stand.calls(b"sub/invoice 7.txt")] == [1]
    assert stand.path("failed", b"sub/invoice 7.txt", "slow_retries").read_bytes() == b"reject the invoice has no number"


def test_a_file_whose_handler_raises_twice_is_done_after_two_retries(stand: Stand) -> None:
    stand.drop(b"twice.txt", b"raise_twice")
    stand.wait_until(lambda: is_done(stand, b"twice.txt"))

    calls = stand.calls(b"twice.txt")
    assert [call.attempt for call in calls] == [1, 2, 3]
    assert len({call.id for call in calls}) == 1
    assert len(stand.log_events("file_retried", stand.worker)) >= 2
    assert not is_failed(stand, b"twice.txt")


def test_a_file_whose_handler_always_raises_fails_after_its_last_attempt(stand: Stand) -> None:
    stand.drop(b"never.txt", b"always_raise the archive is unavailable")
    stand.wait_until(lambda: is_failed(stand, b"never.txt"))

    assert [call.attempt for call in stand.calls(b"never.txt")] == [1, 2, 3, 4]
    note = stand.note(b"never.txt")
    person, _, administrator = note.partition("For the administrator")
    assert "the archive is unavailable" not in person
    assert f"Kind: raised\nAttempts: {RETRIES + 1}\nReason: " in administrator
    assert "the archive is unavailable" in administrator
    assert "Traceback" not in note


def test_a_retried_message_contains_the_file_only_in_its_body(stand: Stand) -> None:
    content = b"always_raise\nthe secret recipe"
    stand.drop(b"recipe.txt", content, "slow_retries")
    stand.wait_until(lambda: stand.log_events("file_retried", stand.worker) and stand.calls(b"recipe.txt"))

    stand.wait_until(lambda: _find_messages(stand, stand.calls(b"recipe.txt")[0].parcel, retries=1))
    (message,) = _find_messages(stand, stand.calls(b"recipe.txt")[0].parcel, retries=1)

    assert content in base64.b64decode(message["body"])  # this is the file's message
    message.pop("body")
    assert "secret recipe" not in json.dumps(message)
    assert message["headers"]["argsrepr"] == stand.calls(b"recipe.txt")[0].parcel
    assert "secret recipe" not in stand.worker.text()


def _find_messages(stand: Stand, parcel: str, retries: int) -> list[dict[str, dict[str, object]]]:
    """Return a parcel's messages with this retry count, unacknowledged or queued."""
    raw = [json.loads(unacked)[0] for unacked in stand.client.hvals("inboxd.unacked")]
    raw += [json.loads(queued) for queued in stand.client.lrange("inboxd.work", 0, -1)]
    return [m for m in raw if m["headers"]["id"] == parcel and m["headers"]["retries"] == retries]


def test_one_bad_file_of_a_shared_parcel_does_not_delay_the_others(stand: Stand) -> None:
    _make_handler_known_as_fast(stand, "shared")
    content = {b"%d.txt" % number: b"good %d" % number for number in range(50)}
    bad = b"bulk/25 bad.txt"

    good = stand.drop_folder(b"bulk", {**content, b"25 bad.txt": b"always_raise broken"}, "shared")
    del good[bad]
    stand.wait_until(lambda: good.items() <= stand.tree("done", "shared").items())
    stand.wait_until(lambda: is_failed(stand, bad, "shared"))

    first, second = stand.calls(bad)
    same_parcel = [call for call in stand.calls(b"bulk/") if call.parcel == first.parcel]
    assert len(same_parcel) > 1, "the bad file did not share a parcel, so this test has tested nothing"
    assert second.parcel != first.parcel
    assert [len(stand.calls(name)) for name in good] == [1] * 50
    assert "broken" in stand.note(bad, "shared")
    stand.wait_until(lambda: stand.has_no_pending_files("shared"))


def test_only_the_file_that_kills_its_worker_fails(stand: Stand) -> None:
    _make_handler_known_as_fast(stand, "shared")
    worker_pid = stand.worker.pid
    content = {b"%d.txt" % number: b"good %d" % number for number in range(20)}
    deadly = b"trap/10 deadly.txt"

    good = stand.drop_folder(b"trap", {**content, b"10 deadly.txt": b"die"}, "shared")
    del good[deadly]
    stand.wait_until(lambda: good.items() <= stand.tree("done", "shared").items())
    stand.wait_until(lambda: is_failed(stand, deadly, "shared"))

    calls = stand.calls(deadly)
    assert len({call.parcel for call in calls}) == 2, "in two parcels: first shared, then alone"
    assert 2 <= len(calls) <= 3
    assert "the worker process died" in stand.note(deadly, "shared")
    assert all(len(stand.calls(name)) <= 2 for name in good)
    assert stand.worker.pid == worker_pid
    assert stand.worker.running
    stand.wait_until(lambda: stand.has_no_pending_files("shared"))


@pytest.mark.parametrize(("command", "reason"), [(b"exit", "SystemExit: 3"), (b"memory", "MemoryError")])
def test_system_exit_and_memory_error_in_a_handler_do_not_end_the_worker(stand: Stand, command: bytes, reason: str) -> None:
    worker_pid = stand.worker.pid
    name = command + b".txt"

    stand.drop(name, command)
    stand.wait_until(lambda: is_failed(stand, name))
    stand.drop(name + b".after", b"the next one")
    stand.wait_until(lambda: is_done(stand, name + b".after"))

    assert [call.attempt for call in stand.calls(name)][: RETRIES + 1] == [1, 2, 3, 4]
    assert reason in stand.note(name)
    assert stand.worker.pid == worker_pid


def test_a_handler_that_exceeds_its_time_limit_is_stopped_and_its_file_fails(stand: Stand) -> None:
    stand.drop(b"long.txt", b"sleep 60", "short_limit")
    dropped_at = time.monotonic()
    stand.wait_until(lambda: is_failed(stand, b"long.txt", "short_limit"))

    assert time.monotonic() - dropped_at < 45
    note = stand.note(b"long.txt", "short_limit")
    assert "the work on this file was stopped after 1 seconds" in note
    assert "Kind: time_limit\n" in note
    assert "Reason: processing took longer than 1 s\n" in note
    assert len(stand.calls(b"long.txt")) == 1


def test_a_handler_that_ignores_its_time_limit_is_killed_and_its_file_fails_once(stand: Stand) -> None:
    stand.wait_until(lambda: stand.has_no_pending_files("short_limit"))

    assert is_failed(stand, IGNORES_LIMIT, "short_limit")
    filed = stand.names("failed", "short_limit") | stand.names("done", "short_limit")
    assert {name for name in filed if name.startswith(b"ignores limit")} == {IGNORES_LIMIT, IGNORES_LIMIT + b".error.txt"}
    assert 1 <= len(stand.calls(IGNORES_LIMIT)) <= 2
    note = stand.note(IGNORES_LIMIT, "short_limit")
    assert "Kind: time_limit\n" in note
    assert "Reason: processing took longer than 1 s" in note


def _make_handler_known_as_fast(stand: Stand, inbox: str) -> None:
    """Process eight files, so that the handler's rate is known: only then do files share parcels."""
    for number in range(8):
        name = b"warm %d-%d.txt" % (number, time.monotonic_ns())
        stand.drop(name, b"warm", inbox)
        stand.wait_until(lambda name=name: is_done(stand, name, inbox))
