"""Claiming files, listing and splitting parcels, and releasing files."""

import errno
from pathlib import Path

import pytest
from support.crash.fuse import Fuse
from support.descriptors import open_descriptors
from support.disk.deep_trees import LEVELS, deep_tree
from support.disk.disks import RefusingDisk
from support.disk.spools import Spool

from inboxd.fs.syscalls import Disk
from inboxd.spool.claims import (
    ClaimResult,
    claim,
    list_files,
    list_parcels,
    open_folder_of,
    release_file,
    remove_if_empty,
    split_off,
)
from inboxd.spool.layout import new_parcel_id

ODD_PATHS = [b"a", b"x/b", b"x/y/c d", b"\xff/\n", b"n" * 255]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Make a spool."""
    return Spool.make(tmp_path / "drop")


def claim_paths(spool: Spool, *paths: bytes, disk: Disk | None = None) -> tuple[str, ClaimResult]:
    parcel = new_parcel_id()
    with spool.folders() as folders:
        return parcel, claim(disk or Disk(), folders, parcel, paths)


def list_parcel(spool: Spool, parcel: str) -> list[bytes]:
    with spool.folders() as folders:
        return list_files(Disk(), folders, parcel)


def test_a_claimed_file_keeps_its_path_and_its_bytes(spool: Spool) -> None:
    for path in ODD_PATHS:
        spool.put(b"inbox/" + path, b"content of " + path)

    parcel, result = claim_paths(spool, *ODD_PATHS)

    assert result == ClaimResult(ODD_PATHS, [])
    assert spool.files(f"claimed/{parcel}") == {path: b"content of " + path for path in ODD_PATHS}
    assert spool.files("inbox") == {}
    assert list_parcel(spool, parcel) == sorted(ODD_PATHS)


def test_parcels_are_accessible_to_inboxd_only(spool: Spool) -> None:
    spool.put(b"inbox/x/a")

    parcel, _ = claim_paths(spool, b"x/a")

    modes = [(spool.root / "claimed" / parcel / folder).stat().st_mode & 0o777 for folder in ("", "x")]
    assert modes == [0o700, 0o700]


def test_of_two_claims_one_gets_the_file(spool: Spool) -> None:
    spool.put(b"inbox/a")

    parcel, first = claim_paths(spool, b"a")
    _, second = claim_paths(spool, b"a")

    assert (first.claimed, second.claimed) == ([b"a"], [])
    with spool.folders() as folders:
        assert list_parcels(Disk(), folders) == [parcel]


@pytest.mark.parametrize("path", [b"missing", b"no/such/folder", b"a/b"])
def test_claiming_a_missing_file_is_no_error_and_leaves_no_parcel(path: bytes, spool: Spool) -> None:
    spool.put(b"inbox/a")

    _, result = claim_paths(spool, path)

    assert result == ClaimResult([], [])
    assert list((spool.root / "claimed").iterdir()) == []


def test_a_file_without_permission_does_not_prevent_other_claims(spool: Spool) -> None:
    for path in (b"a", b"x/b", b"c"):
        spool.put(b"inbox/" + path)

    parcel, result = claim_paths(spool, b"a", b"x/b", b"c", disk=RefusingDisk("open_folder", b"x", errno.EACCES))

    assert result.claimed == [b"a", b"c"]
    assert [(path, error.errno) for path, error in result.denied] == [(b"x/b", errno.EACCES)]
    assert spool.files("inbox") == {b"x/b": b"content"}
    assert list_parcel(spool, parcel) == [b"a", b"c"]


def test_a_sub_folder_that_became_a_symlink_is_not_followed(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (spool.root / "inbox" / "x").symlink_to(tmp_path)

    _, result = claim_paths(spool, b"x/secret")

    assert result.claimed == []
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_the_claimed_paths_exist_in_the_parcel(spool: Spool) -> None:
    """A dropper may replace a file by a folder of the same name while both are being claimed."""
    spool.put(b"inbox/a", b"file")
    parcel = new_parcel_id()

    def paths() -> object:
        yield b"a"
        spool.put(b"inbox/a/b", b"in the folder")
        yield b"a/b"

    with spool.folders() as folders:
        result = claim(Disk(), folders, parcel, paths())

    assert set(result.claimed) == set(list_parcel(spool, parcel))


def test_only_parcels_are_listed_oldest_first(spool: Spool) -> None:
    parcels = [new_parcel_id(second) for second in (3.0, 1.0, 2.0)]
    for name in (*parcels, "no parcel", "lost+found", "A" * 28):
        (spool.root / "claimed" / name).mkdir()
    spool.put(b"claimed/" + b"0" * 28)

    with spool.folders() as folders:
        assert list_parcels(Disk(), folders) == [parcels[1], parcels[2], parcels[0]]


def test_a_missing_parcel_has_no_files(spool: Spool) -> None:
    assert list_parcel(spool, new_parcel_id()) == []


def test_a_symlink_in_a_parcel_is_listed_and_not_followed(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    (spool.root / "claimed" / parcel / "link").symlink_to("/etc")

    assert list_parcel(spool, parcel) == [b"a", b"link"]


def test_listing_a_tree_of_3000_levels_takes_a_few_operations_per_level(spool: Spool) -> None:
    parcel = spool.claimed(b"a")
    limited = Fuse(Disk(), 20 * LEVELS)  # opening each folder from the top would take millions of operations

    with deep_tree(spool.root / "claimed" / parcel) as deep_path, spool.folders() as folders:
        paths = list_files(limited, folders, parcel)

    assert paths == [b"a", deep_path]


def test_a_file_is_split_off_into_a_new_parcel(spool: Spool) -> None:
    parcel, new_parcel = spool.claimed(b"x/a", b"x/b"), new_parcel_id()

    with spool.folders() as folders:
        assert split_off(Disk(), folders, parcel, b"x/a", new_parcel)

    assert (list_parcel(spool, parcel), list_parcel(spool, new_parcel)) == ([b"x/b"], [b"x/a"])


def test_splitting_off_the_last_file_removes_the_old_parcel(spool: Spool) -> None:
    parcel, new_parcel = spool.claimed(b"x/a"), new_parcel_id()

    with spool.folders() as folders:
        split_off(Disk(), folders, parcel, b"x/a", new_parcel)

        assert list_parcels(Disk(), folders) == [new_parcel]


@pytest.mark.parametrize("path", [b"missing", b"x/missing", b"a/b"])
def test_splitting_off_a_missing_file_leaves_no_new_parcel(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    with spool.folders() as folders:
        assert not split_off(Disk(), folders, parcel, path, new_parcel_id())
        assert not split_off(Disk(), folders, new_parcel_id(), b"a", new_parcel_id())

        assert list_parcels(Disk(), folders) == [parcel]


def test_a_released_file_has_its_own_path_in_the_inbox(spool: Spool) -> None:
    parcel = spool.claimed(b"x/y/a")

    with spool.folders() as folders:
        assert release_file(Disk(), folders, parcel, b"x/y/a")

    assert spool.files() == {b"inbox/x/y/a": b"content"}
    assert spool.folders_in("claimed") == set()


def test_a_released_file_does_not_overwrite_a_new_file(spool: Spool) -> None:
    parcel = spool.claimed(b"a.txt", data=b"old")
    spool.put(b"inbox/a.txt", b"new")

    with spool.folders() as folders:
        assert release_file(Disk(), folders, parcel, b"a.txt")

    assert spool.files("inbox") == {b"a.txt": b"new", b"a (2).txt": b"old"}


@pytest.mark.parametrize("path", [b"missing", b"x/y/missing"])
def test_releasing_a_missing_file_is_no_error_and_creates_no_folders(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"x/y/a")

    with spool.folders() as folders:
        assert not release_file(Disk(), folders, parcel, path)
        assert not release_file(Disk(), folders, new_parcel_id(), path)

    assert spool.folders_in("inbox") == set()


def test_an_empty_parcel_is_removed_with_all_its_folders(spool: Spool) -> None:
    parcel = spool.claimed()
    (spool.root / "claimed" / parcel / "x" / "y").mkdir(parents=True)
    (spool.root / "claimed" / parcel / "z").mkdir()

    with spool.folders() as folders:
        remove_if_empty(Disk(), folders, parcel)
        remove_if_empty(Disk(), folders, parcel)

    assert list((spool.root / "claimed").iterdir()) == []


@pytest.mark.parametrize("path", [b"a", b"x/a", b"x/y/z/a"])
def test_a_parcel_with_a_file_is_not_removed(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(path)

    with spool.folders() as folders:
        remove_if_empty(Disk(), folders, parcel)

    assert list_parcel(spool, parcel) == [path]


@pytest.mark.parametrize("path", [b"../a", b"x/../../a", b"/etc/passwd", b""])
def test_a_path_out_of_the_parcel_raises(path: bytes, spool: Spool) -> None:
    parcel = spool.claimed(b"a")

    with spool.folders() as folders, pytest.raises(ValueError, match="not a path"):
        open_folder_of(Disk(), folders, parcel, path)


def test_no_descriptor_is_left_open(spool: Spool) -> None:
    open_before = open_descriptors()
    spool.put(b"inbox/x/a")

    parcel, _ = claim_paths(spool, b"x/a", b"missing", b"no/such")
    with spool.folders() as folders:
        release_file(Disk(), folders, parcel, b"x/missing")
        split_off(Disk(), folders, parcel, b"x/a", new_parcel := new_parcel_id())
        release_file(Disk(), folders, new_parcel, b"x/a")

    assert open_descriptors() == open_before
