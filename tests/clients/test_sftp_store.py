"""The store of large files on OpenSSH's sftp."""

import hashlib
import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.client_servers import ssh_server
from support.free_port import free_port
from support.processes import kill_family

from inboxd.config.tables import Stage
from inboxd.errors import StageUnavailable
from inboxd.stage.staged_copy import BLOCK_BYTES, StagedCopy
from inboxd.stage.store import Store

pytestmark = pytest.mark.clients

HOST, PARCEL = "stand", "0" * 28
CONTENT = os.urandom(2 * BLOCK_BYTES + 4321)


class Server:
    """OpenSSH's server, which can be stopped and started again under its port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.top = folder / "store"
        self.top.mkdir()
        self._argv = ssh_server(folder, self.port)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, stderr=subprocess.DEVNULL, start_new_session=True)

    def stop(self) -> None:
        """End the server and its connections."""
        assert self._process
        kill_family(self._process)

    def stage(self, **options: Any) -> Stage:  # noqa: ANN401 - of any driver
        keys = {"client_keys": [str(self.folder / "client_key")], "known_hosts": str(self.folder / "known_hosts")}
        return Stage(url=f"sftp://root@127.0.0.1:{self.port}{self.top}", options=keys | options)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    key = (tmp_path / "host_key.pub").read_text()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {key}")
    yield server
    server.stop()


def upload(store: Store) -> StagedCopy:
    deadline = time.monotonic() + 30
    while True:
        try:
            return store.upload(HOST, PARCEL, io.BytesIO(CONTENT), len(CONTENT), lambda: None)
        except StageUnavailable:  # the server is starting
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_copy_is_read_from_any_position_and_removed(server: Server) -> None:
    store, other = Store(server.stage(), ""), Store(server.stage(), "")

    copy = upload(store)

    assert copy.sha256 == hashlib.sha256(CONTENT).hexdigest()
    _, reader = other.open(HOST, PARCEL, copy, len(CONTENT))
    reader.seek(-100, os.SEEK_END)
    assert reader.read() == CONTENT[-100:]
    reader.seek(BLOCK_BYTES - 10)
    assert reader.read(20) == CONTENT[BLOCK_BYTES - 10 : BLOCK_BYTES + 10]
    reader.seek(0)
    assert reader.read() == CONTENT
    assert other.list_parcels(HOST) == [PARCEL]
    store.remove(HOST, PARCEL)
    store.remove(HOST, PARCEL)
    assert other.list_parcels(HOST) == []
    assert not [path for path in server.top.rglob("*") if path.is_file()]


def test_a_server_that_was_restarted_is_connected_to_anew(server: Server) -> None:
    store = Store(server.stage(), "")
    copy = upload(store)
    stream, reader = store.open(HOST, PARCEL, copy, len(CONTENT))
    assert reader.read(10) == CONTENT[:10]

    server.stop()
    server.start()
    time.sleep(1.0)

    reader.seek(2 * BLOCK_BYTES)
    assert reader.read() == CONTENT[2 * BLOCK_BYTES :]
    assert stream.fault is None


def test_a_server_that_is_gone_is_a_fault_of_the_store(server: Server) -> None:
    store = Store(server.stage(), "")
    copy = upload(store)
    stream, reader = store.open(HOST, PARCEL, copy, len(CONTENT))

    server.stop()

    with pytest.raises(OSError, match="sftp://root@127"):
        reader.read()
    assert stream.fault is not None
    server.start()  # for the fixture


@pytest.mark.parametrize(
    "known", ["", "[127.0.0.1]:{port} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz3CRZOrJcMy8p8iCRbTjMYkMTyTYVcW1aHpV\n"]
)
def test_a_server_with_another_key_gets_no_file(server: Server, known: str) -> None:
    upload(Store(server.stage(), ""))  # it has started
    (server.folder / "known_hosts").write_text(known.format(port=server.port))

    with pytest.raises(StageUnavailable, match=r"(?i)host key"):
        Store(server.stage(), "").upload(HOST, PARCEL, io.BytesIO(CONTENT), len(CONTENT), lambda: None)


def test_without_a_file_of_known_hosts_the_users_own_counts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(Store(server.stage(), ""))
    stage = server.stage()
    del stage.options["known_hosts"]
    monkeypatch.setenv("HOME", str(tmp_path))

    with pytest.raises(StageUnavailable, match=r"(?i)host key"):
        Store(stage, "").list_parcels(HOST)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_bytes((tmp_path / "known_hosts").read_bytes())

    assert Store(stage, "").list_parcels(HOST) == [PARCEL]


def test_a_folder_that_can_not_be_made_is_told_by_its_url(server: Server) -> None:
    (server.top / "file").write_text("")
    stage = server.stage()
    stage = Stage(url=f"{stage.url}/file", options=stage.options)
    upload(Store(server.stage(), ""))

    with pytest.raises(StageUnavailable, match="/store/file: "):
        Store(stage, "").upload(HOST, PARCEL, io.BytesIO(b"x"), 1, lambda: None)
