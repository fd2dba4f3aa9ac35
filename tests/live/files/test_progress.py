"""After a worker is killed in the middle of a parcel, files with a recorded outcome are not handled again."""

import os
import signal
from collections.abc import Callable

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_after_a_kill_only_unfinished_files_are_handled_again(victim: str, make_stand: MakeStand) -> None:
    stand = make_stand().start()
    warmup = {b"warm/%d" % number for number in range(8)}
    for name in warmup:  # files share parcels once the handler's rate is known
        stand.drop(name, b"quick")
    stand.wait_until(lambda: warmup <= stand.names("done"))
    files = {b"%02d.txt" % number: b"sleep 0.3" for number in range(10)}
    files[b"03.txt"] = b"reject the invoice has no total"
    files[b"04.txt"] = b"always_raise the invoice has no total"

    dropped = stand.drop_folder(b"parcel", files)
    stand.wait_until(lambda: len(stand.calls(b"parcel")) >= 7)
    assert len({call.parcel for call in stand.calls(b"parcel")}) < 4, "the files did not share parcels"
    last_calls = {call.pid: call for call in stand.calls()}
    if victim == "worker":
        stand.worker.kill9()
        stand.worker.start()
    else:
        os.kill(stand.calls()[-1].pid, signal.SIGKILL)
    stand.wait_until(stand.has_no_pending_files)

    handled_again = {path: count for path, count in stand.duplicates().items() if path != b"parcel/04.txt"}
    assert set(handled_again) <= {call.path for call in last_calls.values()}
    assert stand.names("done") - warmup == dropped.keys() - {b"parcel/03.txt", b"parcel/04.txt"}
    assert {b"parcel/03.txt", b"parcel/04.txt"} < stand.names("failed")
    assert len(stand.calls(b"parcel/03.txt")) == 1
    assert len(stand.calls(b"parcel/04.txt")) == 4  # once in the shared parcel, and its three retries
