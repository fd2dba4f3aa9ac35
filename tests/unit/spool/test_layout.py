"""The four folders, parcel ids, and paths that could lead out of an inbox."""

from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.descriptors import open_descriptors
from support.disk.spools import Spool

from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.spool.layout import created_at, is_parcel_id, new_parcel_id, open_folders, split_path


def test_a_parcel_id_contains_the_creation_time() -> None:
    parcel = new_parcel_id(1_700_000_000.123)

    assert is_parcel_id(parcel)
    assert created_at(parcel) == 1_700_000_000.123


def test_parcel_ids_sort_by_age_and_never_repeat() -> None:
    parcels = [new_parcel_id(second) for second in range(100)]

    assert sorted(parcels) == parcels
    assert len({new_parcel_id(1.0) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "name", ["", "a", "0" * 27, "0" * 29, "0" * 27 + "G", "A" * 28, "0" * 28 + "\n", "../" + "0" * 25, "0" * 27 + "٣"]
)
def test_other_names_are_no_parcel_ids(name: str) -> None:
    assert not is_parcel_id(name)


@pytest.mark.parametrize(
    ("path", "parts", "name"),
    [(b"a", (), b"a"), (b"x/y/a b", (b"x", b"y"), b"a b"), (b"...", (), b"..."), (b"\xff/\n", (b"\xff",), b"\n")],
)
def test_a_path_is_split_into_folders_and_name(path: bytes, parts: tuple[bytes, ...], name: bytes) -> None:
    assert split_path(path) == (parts, name)


@pytest.mark.parametrize(
    "path", [b"", b".", b"..", b"/", b"/a", b"a/", b"a//b", b"../a", b"a/../b", b"a/..", b"./a", b"a\0b", b"a\0/b"]
)
def test_a_path_that_could_lead_out_of_the_inbox_raises(path: bytes) -> None:
    with pytest.raises(ValueError, match="not a path below an inbox"):
        split_path(path)


@given(st.binary(max_size=50))
def test_an_accepted_path_stays_in_the_inbox_and_joins_to_itself(path: bytes) -> None:
    try:
        parts, name = split_path(path)
    except ValueError:
        return

    assert b"/".join((*parts, name)) == path
    assert not {b"", b".", b".."} & {*parts, name}


@pytest.mark.parametrize("missing", ["inbox", "claimed", "done", "failed"])
def test_a_missing_folder_raises(missing: str, tmp_path: Path) -> None:
    spool = Spool.make(tmp_path)
    (tmp_path / missing).rmdir()

    with pytest.raises(FolderUnavailable, match=f"{missing}: No such file"), spool.folders():
        pass


def test_the_error_for_a_missing_root_has_its_path(tmp_path: Path) -> None:
    with pytest.raises(FolderUnavailable, match="nowhere: No such file"), open_folders(Disk(), PurePath(tmp_path / "nowhere")):
        pass


@pytest.mark.parametrize("name", ["inbox", "claimed", "done", "failed"])
def test_a_symlink_instead_of_a_folder_is_not_followed(name: str, tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    (tmp_path / "elsewhere").mkdir()
    (spool.root / name).rmdir()
    (spool.root / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderUnavailable, match=name), spool.folders():
        pass


def test_the_root_may_be_a_symlink(tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    (tmp_path / "link").symlink_to(spool.root)

    with open_folders(Disk(), tmp_path / "link") as folders:
        names = [name for name, _ in Disk().entries(folders.inbox)]

    assert names == []


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    spool = Spool.make(tmp_path)
    open_before = open_descriptors()

    with spool.folders():
        pass
    (tmp_path / "failed").rmdir()
    with pytest.raises(FolderUnavailable), spool.folders():
        pass

    assert open_descriptors() == open_before
