"""The hint queue: filled by threads and signal handlers, emptied without duplicates."""

import signal
import threading
import time
from types import FrameType

from inboxd.watcher.hints import Hint, HintKind, HintQueue

ARRIVED = Hint(HintKind.ARRIVED, "drop")
STOP = Hint(HintKind.STOP)
LONG = 60.0


def test_wait_returns_all_queued_hints_without_duplicates() -> None:
    hints = HintQueue()
    for hint in (ARRIVED, STOP, ARRIVED, Hint(HintKind.ARRIVED, "other"), ARRIVED):
        hints.put(hint)

    received = hints.wait(LONG)

    assert received == {ARRIVED, Hint(HintKind.ARRIVED, "other"), STOP}
    assert hints.wait(0.0) == set()


def test_a_wait_without_hints_ends_after_its_timeout() -> None:
    hints = HintQueue()
    started = time.monotonic()

    received = hints.wait(0.05)

    assert received == set()
    assert 0.05 <= time.monotonic() - started < LONG / 2


def test_a_timeout_of_zero_or_less_does_not_block_but_returns_queued_hints() -> None:
    hints = HintQueue()
    hints.put(ARRIVED)

    for seconds in (0.0, -1.0, float("-inf")):
        assert hints.wait(seconds) == ({ARRIVED} if seconds == 0.0 else set())


def test_a_hint_from_another_thread_ends_the_wait() -> None:
    hints = HintQueue()
    started = time.monotonic()
    thread = threading.Timer(0.05, hints.put, [ARRIVED])
    thread.start()

    received = hints.wait(LONG)

    thread.join()
    assert received == {ARRIVED}
    assert time.monotonic() - started < LONG / 2


def test_a_hint_from_a_signal_handler_ends_the_wait() -> None:
    hints = HintQueue()

    def stop(_number: int, _frame: FrameType | None) -> None:
        hints.put(STOP)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        received = hints.wait(LONG)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)

    assert received == {STOP}


def test_no_hint_is_lost_between_threads() -> None:
    hints = HintQueue()
    senders = [
        threading.Thread(target=lambda name=name: [hints.put(Hint(HintKind.ARRIVED, f"{name}-{n}")) for n in range(200)])
        for name in range(4)
    ]

    for sender in senders:
        sender.start()
    received: list[Hint] = []
    while len(received) < 800 and (new := hints.wait(10.0)):
        received += new

    for sender in senders:
        sender.join()
    assert sorted(hint.inbox for hint in received) == sorted(f"{name}-{n}" for name in range(4) for n in range(200))
