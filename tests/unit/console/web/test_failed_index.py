"""The index of failed files: what it contains, what it reads again, and what it keeps."""

import os
import threading
from collections import Counter
from pathlib import Path

import pytest
from support.disk.failed_files import drop_and_fail
from support.waiting import eventually
from support.web import Page

from inboxd.console.web import folder_scan
from inboxd.console.web.failed_index import FailedIndex
from inboxd.console.web.failure import FailureFilter
from inboxd.fs.syscalls import Disk, Fd
from inboxd.spool.requeue import list_failed_files

HOSTILE = b"<b>\xff\n\xe2\x80\xae.pdf"


class CountingDisk(Disk):
    """Counts how often each file is opened."""

    def __init__(self) -> None:
        self.opened: Counter[bytes] = Counter()

    def open_file(self, at: Fd, name: bytes) -> Fd:
        self.opened[name] += 1
        return super().open_file(at, name)


def paths(index: FailedIndex, **wanted: str) -> set[bytes]:
    return {failure.path for failure in index.matching(FailureFilter(**wanted))}


def test_the_index_has_what_retry_lists(page: Page) -> None:
    for path in (b"a.pdf", b"x/y/b.pdf", HOSTILE, b"n" * 255, b"c.error.txt"):
        drop_and_fail(page.one, path, f"no total in {path!r}")
    page.one.put(b"failed/by-hand.pdf")
    page.one.put(b"failed/x/by-hand.error.txt")
    page.read()

    with page.one.folders() as folders:
        listed = {(f.path, f.note.reason if f.note else "") for f in list_failed_files(Disk(), folders)}
    assert {(f.path, f.reason) for f in page.site.index.latest.files} == listed
    assert len(listed) == 7


def test_a_note_is_read_once_until_it_changes(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_scan, "SETTLED_SECONDS", 1e9)  # no folder counts as unchanged
    disk = CountingDisk()
    index = FailedIndex(page.site.settings, disk)
    drop_and_fail(page.one, b"a.pdf")
    drop_and_fail(page.one, b"b.pdf")
    index.read_all()
    index.read_all()
    page.one.where(b"failed/b.pdf").rename(page.one.where(b"inbox/b.pdf"))
    page.one.where(b"failed/b.pdf.error.txt").unlink()
    drop_and_fail(page.one, b"b.pdf", "another reason")

    index.read_all()

    assert disk.opened == {b"a.pdf.error.txt": 1, b"b.pdf.error.txt": 2}
    assert paths(index, reason="another") == {b"b.pdf"}


def test_a_folder_that_has_not_changed_is_not_listed_again(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_and_fail(page.one, b"x/a.pdf")
    for folder in (page.one.where(b"failed"), page.one.where(b"failed/x"), page.two.where(b"failed")):
        os.utime(folder, (1e9, 1e9))
    page.read()
    monkeypatch.setattr(os, "scandir", lambda _: pytest.fail("a folder was listed"))

    page.read()

    assert paths(page.site.index) == {b"x/a.pdf"}
    assert page.site.index.latest.problems == {}


def test_a_missing_inbox_is_reported_and_the_other_is_read(page: Page) -> None:
    drop_and_fail(page.two, b"a.pdf")
    page.one.where(b"failed").rmdir()

    page.read()

    assert paths(page.site.index) == {b"a.pdf"}
    assert "No such file or directory" in page.site.index.latest.problems["one"]


def test_a_file_that_was_moved_back_is_left_out_at_once_and_comes_back_if_it_fails_again(page: Page) -> None:
    drop_and_fail(page.one, b"a.pdf")
    page.read()
    page.site.index.forget(page.site.index.latest.files)
    before = paths(page.site.index)

    page.one.where(b"failed/a.pdf").unlink()
    page.one.where(b"failed/a.pdf.error.txt").unlink()
    page.read()
    drop_and_fail(page.one, b"a.pdf")
    page.read()

    assert (before, paths(page.site.index)) == (set(), {b"a.pdf"})


def test_the_thread_works_until_it_is_stopped(tmp_path: Path) -> None:
    page = Page(tmp_path)
    drop_and_fail(page.one, b"a.pdf")
    index = FailedIndex(page.site.settings)

    index.start()
    eventually(lambda: index.latest.is_complete)
    index.stop()

    assert paths(index) == {b"a.pdf"}
    assert "failed-index" not in {thread.name for thread in threading.enumerate()}


def test_more_files_than_the_limit_are_not_kept(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inboxd.console.web.failed_index.FILES_MAX", 2)
    for path in (b"x/a", b"y/b", b"z/c"):
        drop_and_fail(page.one, path)

    page.read()

    assert page.site.index.latest.is_truncated
    assert len(page.site.index.latest.files) == 2
