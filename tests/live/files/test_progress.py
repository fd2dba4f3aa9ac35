"""A worker that is killed in the middle of a parcel: what it had done with the files before is not asked of a handler again."""

import os
import signal
from collections.abc import Callable

import pytest
from support.live.stand import Stand

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_only_the_file_in_hand_is_handled_again(victim: str, make_stand: MakeStand) -> None:
    stand = make_stand().start()
    warm = {b"warm/%d" % number for number in range(8)}
    for name in warm:  # files share parcels once the handler is known to be quick
        stand.drop(name, b"quick")
    stand.wait_until(lambda: warm <= stand.names("done"))
    files = {b"%02d.txt" % number: b"sleep 0.3" for number in range(10)}
    files[b"03.txt"] = b"reject no good"
    files[b"04.txt"] = b"always_raise no good either"

    dropped = stand.drop_folder(b"parcel", files)
    stand.wait_until(lambda: len(stand.calls(b"parcel")) >= 7)
    assert len({call.parcel for call in stand.calls(b"parcel")}) < 4, "they do not share parcels"
    in_hand = {call.pid: call for call in stand.calls()}
    if victim == "worker":
        stand.worker.kill9()
        stand.worker.start()
    else:
        os.kill(stand.calls()[-1].pid, signal.SIGKILL)
    stand.wait_until(stand.is_at_rest)

    again = {path: count for path, count in stand.duplicates().items() if path != b"parcel/04.txt"}
    assert set(again) <= {call.path for call in in_hand.values()}
    assert stand.names("done") - warm == dropped.keys() - {b"parcel/03.txt", b"parcel/04.txt"}
    assert {b"parcel/03.txt", b"parcel/04.txt"} < stand.names("failed")
    assert len(stand.calls(b"parcel/03.txt")) == 1
    assert len(stand.calls(b"parcel/04.txt")) == 4  # once in company, and its three retries
