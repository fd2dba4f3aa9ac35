"""Hints: put by any thread and by signal handlers, taken once each."""

import signal
import threading
import time
from types import FrameType

from inboxd.watcher.hints import Hint, HintKind, HintQueue

ARRIVED = Hint(HintKind.ARRIVED, "drop")
STOP = Hint(HintKind.STOP)
LONG = 60.0


def test_all_hints_that_wait_are_taken_at_once_and_once_each() -> None:
    hints = HintQueue()
    for hint in (ARRIVED, STOP, ARRIVED, Hint(HintKind.ARRIVED, "other"), ARRIVED):
        hints.put(hint)

    taken = hints.wait(LONG)

    assert taken == {ARRIVED, Hint(HintKind.ARRIVED, "other"), STOP}
    assert hints.wait(0.0) == set()


def test_a_wait_without_hints_ends_in_its_time() -> None:
    hints = HintQueue()
    begun = time.monotonic()

    taken = hints.wait(0.05)

    assert taken == set()
    assert 0.05 <= time.monotonic() - begun < LONG / 2


def test_a_time_that_is_over_is_not_waited_for_but_hints_are_taken() -> None:
    hints = HintQueue()
    hints.put(ARRIVED)

    for seconds in (0.0, -1.0, float("-inf")):
        assert hints.wait(seconds) == ({ARRIVED} if seconds == 0.0 else set())


def test_a_hint_from_another_thread_ends_the_wait() -> None:
    hints = HintQueue()
    begun = time.monotonic()
    thread = threading.Timer(0.05, hints.put, [ARRIVED])
    thread.start()

    taken = hints.wait(LONG)

    thread.join()
    assert taken == {ARRIVED}
    assert time.monotonic() - begun < LONG / 2


def test_a_hint_from_a_signal_handler_ends_the_wait() -> None:
    hints = HintQueue()

    def stop(_number: int, _frame: FrameType | None) -> None:
        hints.put(STOP)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        taken = hints.wait(LONG)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)

    assert taken == {STOP}


def test_no_hint_is_lost_between_threads() -> None:
    hints = HintQueue()
    senders = [
        threading.Thread(target=lambda name=name: [hints.put(Hint(HintKind.ARRIVED, f"{name}-{n}")) for n in range(200)])
        for name in range(4)
    ]

    for sender in senders:
        sender.start()
    taken: list[Hint] = []
    while len(taken) < 800 and (new := hints.wait(10.0)):
        taken += new

    for sender in senders:
        sender.join()
    assert sorted(hint.inbox for hint in taken) == sorted(f"{name}-{n}" for name in range(4) for n in range(200))
