"""Finding a folder's mount, and the watch mode and wait times that follow from its file system."""

from pathlib import Path, PurePath

import pytest
from support.descriptors import open_descriptors

from inboxd.config.rules import Rules
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
    """A system with a given mount table, where every folder has the same mount id."""

    def __init__(self, mount_id: int, text: str = MOUNTINFO) -> None:
        self._mount_id = mount_id
        self._text = text

    def mount_id(self, _fd: Fd) -> int:
        return self._mount_id

    def read_text(self, path: PurePath) -> str:
        assert path == PurePath("/proc/self/mountinfo")
        return self._text


def mount(fs_type: str) -> Mount:
    return Mount(1, fs_type, "/")


def test_the_mount_of_a_real_folder_is_found(tmp_path: Path) -> None:
    point = next(folder for folder in (tmp_path, *tmp_path.parents) if folder.is_mount())

    result = find_mount_of_path(Disk(), tmp_path)

    assert result.point == str(point)
    assert f" {point} {result.file_system} " in Path("/proc/mounts").read_text()


def test_proc_is_a_separate_mount(tmp_path: Path) -> None:
    proc = find_mount_of_path(Disk(), PurePath("/proc"))

    assert (proc.file_system, proc.point, proc.is_network) == ("proc", "/proc", True)
    assert proc.id != find_mount_of_path(Disk(), tmp_path).id


def test_folders_on_one_mount_have_equal_mounts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    assert find_mount_of_path(Disk(), tmp_path) == find_mount_of_path(Disk(), tmp_path / "a")


def test_finding_a_mount_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = open_descriptors()

    find_mount_of_path(Disk(), tmp_path)

    assert open_descriptors() == before


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_mount_of_path(Disk(), tmp_path / "none")


@pytest.mark.parametrize(
    ("mount_id", "fs_type", "point"),
    [(22, "ext4", "/"), (30, "nfs4", "/srv"), (31, "xfs", "/srv"), (32, "fuse.sshfs", "/mnt/my disk")],
)
def test_of_stacked_mounts_the_one_with_the_id_is_found(mount_id: int, fs_type: str, point: str) -> None:
    assert find_mount(MountsDisk(mount_id), 0) == Mount(mount_id, fs_type, point)


def test_an_unlisted_mount_has_an_unknown_file_system_and_counts_as_network() -> None:
    result = find_mount(MountsDisk(99), 0)

    assert (result.id, result.file_system, result.is_network) == (99, "unknown", True)


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c", "\xa0", "\u3000", "\udcff"])
def test_a_mount_point_with_a_line_separator_in_its_name_does_not_hide_other_mounts(character: str) -> None:
    line = f"21 1 0:50 / /home/me/{character}a{character} rw - fuse.sshfs me@there:/ rw\n"

    assert find_mount(MountsDisk(31, line + MOUNTINFO), 0) == Mount(31, "xfs", "/srv")
    assert find_mount(MountsDisk(21, line + MOUNTINFO), 0).point == f"/home/me/{character}a{character}"


@pytest.mark.parametrize(
    "fs_type", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse.sshfs", "fuse", "ceph", "vboxsf", "unknown", "", "EXT4"]
)
def test_a_network_file_system_is_polled_with_longer_waits(fs_type: str) -> None:
    watch_mode = choose_watch_mode(Rules(), mount(fs_type))

    assert (watch_mode.uses_events, watch_mode.name) == (False, "polling")
    assert fs_type in watch_mode.reason
    assert wait_times(Rules(), mount(fs_type)).unsure_seconds == UNSURE_NETWORK_SECONDS
    assert not wait_times(Rules(), mount(fs_type)).trusts_leases


@pytest.mark.parametrize("fs_type", sorted(LOCAL_FILE_SYSTEMS))
def test_a_local_file_system_is_watched_by_events(fs_type: str) -> None:
    watch_mode = choose_watch_mode(Rules(), mount(fs_type))

    assert (watch_mode.uses_events, watch_mode.name) == (True, "inotify")
    assert fs_type in watch_mode.reason
    assert wait_times(Rules(), mount(fs_type)).unsure_seconds == UNSURE_LOCAL_SECONDS
    assert wait_times(Rules(), mount(fs_type)).trusts_leases


@pytest.mark.parametrize("fs_type", ["ext4", "nfs4"])
@pytest.mark.parametrize(("mode", "uses_events"), [("inotify", True), ("polling", False)])
def test_the_watch_mode_setting_overrides_the_file_system(fs_type: str, mode: str, uses_events: bool) -> None:
    watch_mode = choose_watch_mode(Rules(watch_mode=mode), mount(fs_type))

    assert (watch_mode.uses_events, watch_mode.name) == (uses_events, mode)
    assert "watch_mode" in watch_mode.reason


@pytest.mark.parametrize("fs_type", ["ext4", "nfs4"])
def test_the_wait_time_settings_override_the_file_system(fs_type: str) -> None:
    waits = wait_times(Rules(settle_seconds=0.25, unsure_seconds=3.0, empty_file_seconds=4.0), mount(fs_type))

    assert (waits.settle_seconds, waits.unsure_seconds, waits.empty_seconds) == (0.25, 3.0, 4.0)


def test_no_wait_time_is_shorter_than_settle_seconds() -> None:
    waits = wait_times(Rules(settle_seconds=20.0, empty_file_seconds=0.0), mount("ext4"))

    assert (waits.settle_seconds, waits.unsure_seconds, waits.empty_seconds) == (20.0, 20.0, 20.0)
