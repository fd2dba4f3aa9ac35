"""The store, as a folder: what is written, read and removed, and each fault."""

import errno
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from inboxd.config.tables import Stage
from inboxd.errors import BrokerUnavailable, SettingsError, StageUnavailable
from inboxd.stage.staged_copy import BLOCK_BYTES, StagedCopy
from inboxd.stage.staged_stream import CACHED_BLOCKS, StagedStream
from inboxd.stage.store import Store, find_stage_problems, read_secret_options

HOST, PARCEL = "stand", "01a22e53293070b9d58fa102f9f1"
CONTENT = os.urandom(3 * BLOCK_BYTES + 77)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "shared").mkdir()
    return Stage(url=f"file://{tmp_path}/shared")


def upload(store: Store, content: bytes = CONTENT, host: str = HOST) -> StagedCopy:
    return store.upload(host, PARCEL, io.BytesIO(content), len(content), lambda: None)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_what_was_uploaded_is_read(stage: Stage, size: int) -> None:
    content = CONTENT[:size]

    copy = upload(Store(stage, ""), content)

    _, reader = Store(stage, "").open(HOST, PARCEL, copy, size)
    assert reader.read() == content
    assert copy.sha256 == hashlib.sha256(content).hexdigest()


def test_a_stream_is_read_like_a_file_from_any_position(stage: Stage) -> None:
    store = Store(stage, "")
    _, reader = store.open(HOST, PARCEL, upload(store), len(CONTENT))
    plain = io.BufferedReader(io.BytesIO(CONTENT))  # type: ignore[arg-type]  # a raw stream is not needed

    for whence, offset, size in (
        (io.SEEK_END, -5, 100), (io.SEEK_SET, BLOCK_BYTES - 3, 6), (io.SEEK_CUR, -6, 6), (io.SEEK_SET, 0, 10),
        (io.SEEK_SET, len(CONTENT) + 10, 5), (io.SEEK_SET, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES),
    ):  # fmt: skip
        assert reader.seek(offset, whence) == plain.seek(offset, whence)
        assert reader.read(size) == plain.read(size)
    with pytest.raises((ValueError, OSError)):
        reader.seek(-1)


def test_few_blocks_are_kept_in_memory_and_none_is_fetched_twice_in_a_row() -> None:
    fetched = []

    def read_range(start: int, size: int) -> bytes:
        fetched.append(start // BLOCK_BYTES)
        return CONTENT[start : start + size]

    copy = StagedCopy(
        "0" * 16, BLOCK_BYTES,
        b"".join(hashlib.sha256(CONTENT[at : at + BLOCK_BYTES]).digest() for at in range(0, len(CONTENT), BLOCK_BYTES)), "",
    )  # fmt: skip
    stream = StagedStream(copy, len(CONTENT), read_range)
    reader = io.BufferedReader(stream, 1000)

    reader.seek(-1, os.SEEK_END)
    reader.read()
    reader.seek(0)
    assert reader.read() == CONTENT

    assert fetched == [3, 0, 1, 2, 3]
    assert len(stream._blocks) == CACHED_BLOCKS  # noqa: SLF001 - the memory that it takes


@pytest.mark.parametrize("host", [".", "..", "../../evil", "a/b", "", "ä", "x" * 300, ".hidden"])
def test_no_hosts_name_leads_out_of_the_store(stage: Stage, tmp_path: Path, host: str) -> None:
    store = Store(stage, "")

    upload(store, b"x", host)

    (path,) = files(tmp_path)
    assert path.relative_to(tmp_path).parts[:2] == ("shared", "inboxd")
    assert len(path.relative_to(tmp_path).parts) == 5
    assert store.list_parcels(host) == [PARCEL]


def test_installations_with_other_namespaces_or_hosts_do_not_meet(stage: Stage) -> None:
    first, second = Store(stage, ""), Store(stage, "second")
    copy = upload(first)
    upload(second)
    upload(first, host="elsewhere")

    second.remove(HOST, PARCEL)
    first.remove("elsewhere", PARCEL)

    _, reader = first.open(HOST, PARCEL, copy, len(CONTENT))
    assert reader.read() == CONTENT
    assert second.list_parcels(HOST) == []


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * BLOCK_BYTES + 1)
        file.write(b"!!!")


def cut(path: Path) -> None:
    os.truncate(path, 2 * BLOCK_BYTES + 1)


@pytest.mark.parametrize("harm", [change, cut, Path.unlink])
def test_no_byte_of_a_block_that_differs_is_read(stage: Stage, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    store = Store(stage, "")
    copy = upload(store)
    harm(*files(tmp_path))
    stream, reader = store.open(HOST, PARCEL, copy, len(CONTENT))

    seen = b""
    with pytest.raises(OSError, match=r"store|file://"):  # noqa: PT012 - a later read raises
        while part := reader.read(1 << 20):
            seen += part

    assert CONTENT.startswith(seen)
    assert len(seen) <= 2 * BLOCK_BYTES
    assert isinstance(stream.fault, StageUnavailable)


def test_a_file_that_can_not_be_read_is_no_fault_of_the_store(stage: Stage, tmp_path: Path) -> None:
    class Broken(io.RawIOBase):
        def read(self, _size: int = -1) -> bytes:
            raise OSError(errno.EIO, "bad sector")

    with pytest.raises(OSError, match="bad sector"):
        Store(stage, "").upload(HOST, PARCEL, Broken(), 10, lambda: None)
    with pytest.raises(ValueError, match="ends 5 bytes early"):
        Store(stage, "").upload(HOST, PARCEL, io.BytesIO(b"12345"), 10, lambda: None)
    assert all(path.stat().st_size == 0 for path in files(tmp_path))


@pytest.mark.parametrize("error", [BrokerUnavailable("gone"), SoftTimeLimitExceeded()])
def test_what_ends_an_upload_from_outside_is_raised_as_it_is(stage: Stage, error: Exception) -> None:
    def progress() -> NoReturn:
        raise error

    with pytest.raises(type(error)):
        Store(stage, "").upload(HOST, PARCEL, io.BytesIO(CONTENT), len(CONTENT), progress)


def test_a_store_that_can_not_be_used_is_told_by_its_url(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stage = Stage(url=f"file://{tmp_path}/file/store")

    with pytest.raises(StageUnavailable, match="file/store: Not a directory"):
        upload(Store(stage, ""))
    with pytest.raises(StageUnavailable, match="nosuch://bucket: "):
        upload(Store(Stage(url="nosuch://bucket"), ""))


def test_a_folder_that_may_be_a_mount_that_is_away_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StageUnavailable, match="no such folder"):
        upload(Store(Stage(url=f"file://{tmp_path}/shared"), ""))

    assert [*tmp_path.iterdir()] == []


def test_a_probe_leaves_nothing(stage: Stage, tmp_path: Path) -> None:
    Store(stage, "").probe(HOST)

    assert files(tmp_path) == []


def test_secret_options_come_from_a_file_that_is_not_shown(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text('key = "k"\nsecret = "s3cr3t"\nclient_kwargs = { region_name = "x" }\n')
    bad.write_text("s3cr3t")

    assert read_secret_options(str(good)) == {"key": "k", "secret": "s3cr3t", "client_kwargs": {"region_name": "x"}}
    for path in (bad, tmp_path / "missing"):
        (finding,) = find_stage_problems(Stage(url="file:///x", secret_file=str(path)))
        assert str(path) in str(finding)
        assert "s3cr3t" not in str(finding)
    with pytest.raises(SettingsError):
        read_secret_options(str(bad))


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    for scheme, package in (("s3", "s3fs"), ("sftp", "sshfs"), ("file", "fsspec"), ("abfs", "fsspec")):
        (finding,) = find_stage_problems(Stage(url=f"{scheme}://x/y" if scheme != "file" else "file:///x"))
        assert f"the package {package}" in str(finding)
        assert "install.sh --stage" in str(finding)
    assert not [*find_stage_problems(Stage())]


def test_a_store_that_hangs_is_waited_for_no_longer_than_a_step(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("inboxd.stage.store.STALL_SECONDS", 0.2)
    monkeypatch.setattr("inboxd.stage.store.GIVE_UP_SECONDS", 0.1)
    store = Store(stage, "")
    copy = upload(store)
    for method, call in (
        ("open", lambda: upload(store)), ("open", lambda: store.open(HOST, PARCEL, copy, len(CONTENT))[1].read(1)),
        ("ls", lambda: store.list_parcels(HOST)), ("rm", lambda: store.remove(HOST, PARCEL)),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(LocalFileSystem, method, lambda *_args, **_options: ended.wait(20))
            began = time.monotonic()
            with pytest.raises((OSError, StageUnavailable), match="no answer"):
                call()
            assert time.monotonic() - began < 10
    ended.set()


def test_what_a_failed_upload_has_written_is_removed(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = LocalFileOpener.write, []

    def fill(self: LocalFileOpener, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(data))
        return int(write(self, data))

    monkeypatch.setattr(LocalFileOpener, "write", fill, raising=False)

    with pytest.raises(StageUnavailable, match="No space left on device"):
        upload(Store(stage, ""))
    assert written
    assert files(tmp_path) == []


def test_a_value_of_the_secret_file_is_in_no_error(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text('client_kwargs = { endpoint_url = "host?TOPSECRET" }\n')

    def fail(*_args: object, **options: object) -> NoReturn:
        raise ValueError(f"bad options: {options}")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)

    with pytest.raises(StageUnavailable) as raised:
        upload(Store(stage.model_copy(update={"secret_file": str(tmp_path / "secret")}), ""))
    assert "TOPSECRET" not in str(raised.value)


def test_a_time_limit_that_strikes_while_a_block_is_awaited_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = StagedCopy("0" * 16, BLOCK_BYTES, b"x" * 32, "")

    def hang(_start: int, _size: int) -> NoReturn:
        raise SoftTimeLimitExceeded

    for slow_seconds, is_fault in ((-1.0, True), (60.0, False)):
        monkeypatch.setattr("inboxd.stage.staged_stream.SLOW_SECONDS", slow_seconds)
        stream = StagedStream(copy, 10, hang)
        with pytest.raises(SoftTimeLimitExceeded):
            stream.read(1)
        assert (stream.fault is not None) is is_fault
