"""Temporary copies of dropped files."""

import errno
import io
import tempfile
from pathlib import Path

import pytest

from inboxd.messaging.temporary_copy import make_temporary_copy, remove_temporary_copy


class FailingStream(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "the disk fails", size)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_copy_has_the_content_and_the_suffix_and_is_readable_by_its_owner_only() -> None:
    copy = make_temporary_copy(io.BytesIO(b"content"), "a report.PDF")

    assert (copy.read_bytes(), copy.suffix, copy.stat().st_mode & 0o777) == (b"content", ".PDF", 0o600)


def test_no_copy_is_left_if_the_file_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk fails"):
        make_temporary_copy(FailingStream(), "a.pdf")

    assert [*tmp_path.iterdir()] == []


def test_a_copy_that_its_user_has_moved_is_not_missed(tmp_path: Path) -> None:
    copy = make_temporary_copy(io.BytesIO(b""), "a.pdf")
    copy.rename(tmp_path / "moved")

    remove_temporary_copy(copy)

    assert [path.name for path in tmp_path.iterdir()] == ["moved"]
