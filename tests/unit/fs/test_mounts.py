"""What kind of mount a folder is on, and what follows from it."""

from pathlib import Path, PurePath

import pytest

from inboxd.config.settings import Rules
from inboxd.fs.mounts import LOCAL_FILE_SYSTEMS, Mount, find_mount, find_mount_of_path
from inboxd.fs.syscalls import Disk, Fd
from inboxd.intake.watch_mode import UNSURE_LOCAL_SECONDS, UNSURE_NETWORK_SECONDS, choose_watch_mode, wait_times

MOUNTINFO = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /srv rw shared:9 master:3 propagate_from:2 - nfs4 server:/export rw,vers=4.2
31 22 254:1 /data /srv rw - xfs /dev/vdb rw
32 22 0:27 / /mnt/my\040disk rw - fuse.sshfs me@there:/ rw
""".lstrip()


class MountsDisk(Disk):
    """A system with these mounts, on which every folder is on one of them."""

    def __init__(self, number: int, text: str = MOUNTINFO) -> None:
        self._number = number
        self._text = text

    def mount_id(self, _fd: Fd) -> int:
        return self._number

    def read_text(self, path: PurePath) -> str:
        assert path == PurePath("/proc/self/mountinfo")
        return self._text


def mount(kind: str) -> Mount:
    return Mount(1, kind, "/")


def test_the_mount_of_a_real_folder_is_found(tmp_path: Path) -> None:
    point = next(folder for folder in (tmp_path, *tmp_path.parents) if folder.is_mount())

    found = find_mount_of_path(Disk(), tmp_path)

    assert found.point == str(point)
    assert f" {point} {found.file_system} " in Path("/proc/mounts").read_text()


def test_proc_is_a_mount_of_its_own(tmp_path: Path) -> None:
    proc = find_mount_of_path(Disk(), PurePath("/proc"))

    assert (proc.file_system, proc.point, proc.is_network) == ("proc", "/proc", True)
    assert proc.id != find_mount_of_path(Disk(), tmp_path).id


def test_folders_on_one_mount_have_one_number(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    assert find_mount_of_path(Disk(), tmp_path) == find_mount_of_path(Disk(), tmp_path / "a")


def test_looking_for_a_mount_leaves_nothing_open(tmp_path: Path) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())

    find_mount_of_path(Disk(), tmp_path)

    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_folder_that_is_not_there_is_on_no_mount(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_mount_of_path(Disk(), tmp_path / "none")


@pytest.mark.parametrize(
    ("number", "kind", "point"),
    [(22, "ext4", "/"), (30, "nfs4", "/srv"), (31, "xfs", "/srv"), (32, "fuse.sshfs", r"/mnt/my\040disk")],
)
def test_of_mounts_upon_mounts_the_one_with_the_number_is_meant(number: int, kind: str, point: str) -> None:
    assert find_mount(MountsDisk(number), 0) == Mount(number, kind, point)


def test_a_mount_that_is_not_listed_is_of_unknown_kind_and_not_trusted() -> None:
    found = find_mount(MountsDisk(99), 0)

    assert (found.id, found.file_system, found.is_network) == (99, "unknown", True)


@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\xa0", "\u3000", "\udcff"])
def test_a_mount_of_anybody_with_an_odd_name_does_not_hide_the_others(odd: str) -> None:
    strange = f"21 1 0:50 / /home/me/{odd}a{odd} rw - fuse.sshfs me@there:/ rw\n"

    assert find_mount(MountsDisk(31, strange + MOUNTINFO), 0) == Mount(31, "xfs", "/srv")
    assert find_mount(MountsDisk(21, strange + MOUNTINFO), 0).point == f"/home/me/{odd}a{odd}"


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs", "fuse", "ceph", "vboxsf", "unknown", "", "EXT4"]
)
def test_where_others_may_write_unseen_is_polled_and_waited_for(kind: str) -> None:
    watched = choose_watch_mode(Rules(), mount(kind))

    assert (watched.uses_events, watched.name) == (False, "polling")
    assert kind in watched.reason
    assert wait_times(Rules(), mount(kind)).unsure_seconds == UNSURE_NETWORK_SECONDS
    assert not wait_times(Rules(), mount(kind)).trusts_leases


@pytest.mark.parametrize("kind", sorted(LOCAL_FILE_SYSTEMS))
def test_a_local_file_system_is_watched_by_events(kind: str) -> None:
    watched = choose_watch_mode(Rules(), mount(kind))

    assert (watched.uses_events, watched.name) == (True, "inotify")
    assert kind in watched.reason
    assert wait_times(Rules(), mount(kind)).unsure_seconds == UNSURE_LOCAL_SECONDS
    assert wait_times(Rules(), mount(kind)).trusts_leases


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
@pytest.mark.parametrize(("word", "events"), [("inotify", True), ("polling", False)])
def test_the_settings_word_on_watching_counts_for_more_than_the_mounts_kind(kind: str, word: str, events: bool) -> None:
    watched = choose_watch_mode(Rules(watch_mode=word), mount(kind))

    assert (watched.uses_events, watched.name) == (events, word)
    assert "watch_mode" in watched.reason


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
def test_the_settings_word_on_waiting_counts_for_more_than_the_mounts_kind(kind: str) -> None:
    waits = wait_times(Rules(settle_seconds=0.25, unsure_seconds=3.0, empty_file_seconds=4.0), mount(kind))

    assert (waits.settle_seconds, waits.unsure_seconds, waits.empty_seconds) == (0.25, 3.0, 4.0)


def test_nothing_is_waited_for_less_long_than_a_complete_file() -> None:
    waits = wait_times(Rules(settle_seconds=20.0, empty_file_seconds=0.0), mount("ext4"))

    assert (waits.settle_seconds, waits.unsure_seconds, waits.empty_seconds) == (20.0, 20.0, 20.0)
