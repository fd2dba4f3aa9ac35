"""The four folders, the names of parcels, and paths that could lead outside."""

from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.descriptors import open_descriptors
from support.disk.spools import Spool

from inboxd.errors import FolderUnavailable
from inboxd.fs.syscalls import Disk
from inboxd.spool.layout import created_at, is_parcel_id, new_parcel_id, open_folders, split_path


def test_a_parcels_name_says_when_it_was_made() -> None:
    parcel = new_parcel_id(1_700_000_000.123)

    assert is_parcel_id(parcel)
    assert created_at(parcel) == 1_700_000_000.123


def test_names_of_parcels_sort_by_age_and_never_repeat() -> None:
    made = [new_parcel_id(second) for second in range(100)]

    assert sorted(made) == made
    assert len({new_parcel_id(1.0) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "name", ["", "a", "0" * 27, "0" * 29, "0" * 27 + "G", "A" * 28, "0" * 28 + "\n", "../" + "0" * 25, "0" * 27 + "٣"]
)
def test_any_other_name_is_no_parcels(name: str) -> None:
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
def test_a_path_that_could_lead_outside_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="not a path below an inbox"):
        split_path(path)


@given(st.binary(max_size=50))
def test_whatever_is_accepted_stays_inside_and_is_put_together_again(path: bytes) -> None:
    try:
        parts, name = split_path(path)
    except ValueError:
        return

    assert b"/".join((*parts, name)) == path
    assert not {b"", b".", b".."} & {*parts, name}


@pytest.mark.parametrize("missing", ["inbox", "claimed", "done", "failed"])
def test_a_missing_folder_is_unknown_and_never_empty(missing: str, tmp_path: Path) -> None:
    spool = Spool.make(tmp_path)
    (tmp_path / missing).rmdir()

    with pytest.raises(FolderUnavailable, match=f"{missing}: No such file"), spool.folders():
        pass


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderUnavailable, match="nowhere: No such file"), open_folders(Disk(), PurePath(tmp_path / "nowhere")):
        pass


@pytest.mark.parametrize("name", ["inbox", "claimed", "done", "failed"])
def test_a_link_in_the_place_of_a_folder_is_not_followed(name: str, tmp_path: Path) -> None:
    spool = Spool.make(tmp_path / "drop")
    (tmp_path / "elsewhere").mkdir()
    (spool.root / name).rmdir()
    (spool.root / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(FolderUnavailable, match=name), spool.folders():
        pass


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
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
