"""Network mounts, as far as a FUSE file system can answer as they do: see support/remote_folder.py."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.live.stand import FOLDERS, Stand
from support.mounts import REMOTE, FuseMount

from inboxd.logs import events

pytestmark = pytest.mark.mounts

UNSURE_SECONDS = 2.0
CACHE_SECONDS = 1.5
LATE_SECONDS = 40.0
"""A file that is written to after it was filed is looked at again 10 s later."""


class Share:
    """An inbox on a network mount: ``server`` is the folder that it shows; ``client`` is another client's mount of it."""

    def __init__(self, stand: Stand, server: Path, mounts: Callable[..., FuseMount], *options: str) -> None:
        self.stand, self.server = stand, server
        for name in FOLDERS:
            (server / name).mkdir(parents=True)
            stand.path(name).rmdir()
        mounts(server, stand.root(), (*REMOTE, *options))
        self.client = server.with_name("client")
        mounts(server, self.client, REMOTE)
        stand.start()

    def wait_until_done(self, name: str, content: bytes, seconds: float = 90.0) -> None:
        def is_done() -> bool:
            place = self.server / "done" / name
            return place.exists() and place.read_bytes() == content

        self.stand.wait_until(is_done, seconds, awaited=f"done/{name}")

    def handled(self) -> list[str]:
        """Return the hash of each content that the handler got, in order."""
        return [call.sha256 for call in self.stand.calls()]

    def assert_no_traceback(self) -> None:
        assert "Traceback" not in "".join(program.text() for program in self.stand.programs.values())


@pytest.fixture
def share(make_stand: Callable[..., Stand], fuse: Callable[..., FuseMount], tmp_path: Path) -> Callable[..., Share]:
    """Return a function that makes an inbox on a network mount, with options for what it answers."""

    def make(*options: str, **rules: object) -> Share:
        stand = make_stand({"drop": {"unsure_seconds": UNSURE_SECONDS, **rules}})
        return Share(stand, tmp_path / "server", fuse, *options)

    return make


def test_files_of_one_name_are_kept_where_no_rename_refuses_to_overwrite(share: Callable[..., Share]) -> None:
    drop = share()
    for number in range(3):
        (drop.client / "inbox" / "a.txt").write_bytes(b"%d" % number)
        drop.wait_until_done("a.txt" if not number else f"a ({number + 1}).txt", b"%d" % number)

    assert drop.stand.names("done") == {b"a.txt", b"a (2).txt", b"a (3).txt"}
    assert drop.stand.names("inbox") == set()


def test_a_file_is_taken_whole_although_attributes_are_cached(share: Callable[..., Share]) -> None:
    drop = share("--cache-seconds", str(CACHE_SECONDS))
    with (drop.server / "inbox" / "a.txt").open("wb") as file:
        for _ in range(6):
            file.write(b"a part, ")
            file.flush()
            time.sleep(1.0)

    drop.wait_until_done("a.txt", b"a part, " * 6)

    assert len(drop.handled()) == 1


def test_what_another_client_holds_back_until_close_is_handled_in_the_end(share: Callable[..., Share]) -> None:
    """The file is empty on the server for longer than ``empty_file_seconds``: it is taken too early, and then once more."""
    drop = share(empty_file_seconds=2.0)
    file = (drop.client / "inbox" / "a.txt").open("wb")
    file.write(b"held back")
    drop.wait_until_done("a.txt", b"")
    file.close()

    drop.stand.wait_until(lambda: len(drop.handled()) == 2, LATE_SECONDS)
    drop.wait_until_done("a.txt", b"held back")
    first, second = drop.handled()
    assert first != second
    assert drop.stand.log_events(events.FILE_CHANGED)


def test_a_file_that_is_replaced_on_the_server_is_handled_again(share: Callable[..., Share]) -> None:
    drop = share()
    (drop.client / "inbox" / "a.txt").write_bytes(b"first")
    drop.wait_until_done("a.txt", b"first")

    with (drop.server / "done" / "a.txt").open("ab") as file:
        file.write(b" and more")
    drop.stand.wait_until(lambda: len(drop.handled()) == 2, LATE_SECONDS)

    drop.wait_until_done("a.txt", b"first and more")


def test_files_that_vanish_on_the_server_hold_up_no_others(share: Callable[..., Share]) -> None:
    drop = share("--cache-seconds", str(CACHE_SECONDS), "--stale")
    places = [drop.server / "inbox" / f"{number % 5}" / f"{number}.txt" for number in range(100)]
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(place.name.encode())
    time.sleep(UNSURE_SECONDS / 2)
    kept = places[1::2]
    for place in places[::2]:
        place.unlink(missing_ok=True)
        time.sleep(0.03)

    for place in kept:
        drop.wait_until_done(f"{place.parent.name}/{place.name}", place.name.encode())

    drop.stand.wait_until(drop.stand.has_no_pending_files)
    assert not drop.stand.names("failed")
    drop.assert_no_traceback()


def test_folders_that_vanish_on_the_server_hold_up_no_others(share: Callable[..., Share]) -> None:
    drop = share("--cache-seconds", str(CACHE_SECONDS), "--stale")
    for number in range(10):
        folder = drop.server / "inbox" / f"{number}"
        folder.mkdir()
        (folder / "a.txt").write_bytes(b"%d" % number)
        time.sleep(0.1)
        if number % 2:
            (folder / "a.txt").unlink()
            folder.rmdir()

    for number in range(0, 10, 2):
        drop.wait_until_done(f"{number}/a.txt", b"%d" % number)

    drop.stand.wait_until(drop.stand.has_no_pending_files)
    drop.assert_no_traceback()


def test_a_deleted_file_that_a_handler_keeps_open_is_no_output(share: Callable[..., Share]) -> None:
    drop = share()
    (drop.client / "inbox" / "a.txt").write_bytes(b"keep_deleted")
    drop.wait_until_done("a.txt", b"keep_deleted")
    time.sleep(5)

    assert {path.name for path in (drop.server / "done").iterdir()} == {"a.txt"}
    assert drop.stand.log_events(events.OUTPUT_FILED) == []
    assert drop.stand.log_events(events.PARCEL_RECOVERED) == []
