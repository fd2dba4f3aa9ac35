"""Programs whose clock is wrong: files are still filed, and none is deleted for its age.

A preloaded library shifts the system's clock only. libfaketime makes sleeps fail (EINVAL) if the monotonic clock stays real.
"""

import time
from collections.abc import Callable

import pytest
from support.clocks import build_clock_library
from support.live.stand import Stand

pytestmark = pytest.mark.mounts

MakeStand = Callable[..., Stand]

SWEEPS = {"missed_seconds": 1.0, "stale_seconds": 1.0, "grace_seconds": 1.0}


def set_clock(stand: Stand, days: int) -> None:
    """Restart all programs but Redis, with a clock that is this many days ahead."""
    library = build_clock_library(stand.folder)
    for program in (stand.watcher, stand.worker, stand.beat):
        if program.running:
            program.stop()
        program.environment = {
            **program.environment,
            "LD_PRELOAD": str(library),
            "CLOCK_OFFSET": str(days * 86_400),
        }
        program.start()


@pytest.mark.parametrize("days", [40, 2, -1])  # a day forward is believed in the first hour after a boot
def test_with_a_wrong_clock_files_are_filed_and_none_is_deleted(make_stand: MakeStand, days: int) -> None:
    stand = make_stand({"drop": {"keep_done_days": 0.5}}, sweep={**SWEEPS, "expired_seconds": 1.0}).start()
    for number in range(5):
        stand.drop(b"before %d" % number, b"content")
    stand.wait_until(lambda: len(stand.names("done")) == 5)
    time.sleep(3)  # a retention sweep records the clock

    set_clock(stand, days)
    stand.drop(b"after", b"content")
    stand.wait_until(lambda: stand.log_events("clock_jumped"))
    stand.wait_until(lambda: stand.path("done", b"after").exists())
    time.sleep(5)  # several retention sweeps

    assert len(stand.names("done")) == 6
    assert len(stand.log_events("clock_jumped")) == 1
    assert stand.duplicates() == {}


def test_after_the_clock_was_set_back_and_redis_was_flushed_claimed_files_are_filed(make_stand: MakeStand) -> None:
    """The parcels then seem to be from the future, and no lease knows them."""
    stand = make_stand({"drop": {}}, sweep=SWEEPS).start()
    stand.drop(b"slow", b"sleep 4")
    stand.wait_until(lambda: stand.calls(b"slow"))
    stand.worker.kill9()

    stand.client.flushall()
    set_clock(stand, -1)

    stand.wait_until(lambda: stand.path("done", b"slow").exists())
