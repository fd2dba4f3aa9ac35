"""The dictionary that a task of another app gets, and what inboxd.client makes of it."""

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from kombu.utils.json import dumps, loads
from werkzeug.datastructures import FileStorage, Headers

import inboxd.client
from inboxd.errors import InvalidMessage
from inboxd.messaging.other_app.task_message import file_to_dict, unpack_outcome
from inboxd.messaging.payload import FilePart, Parcel

PARCEL = "01a22dc008cfc89dea0cd0068284"
CONTENT = b"%PDF-1.7 an invoice"


def sent(
    path: bytes = b"deep/a.pdf", *, stream: bytes | None = CONTENT, root: Path = Path("/srv"), serializer: str = "msgpack"
) -> Any:  # noqa: ANN401
    """Return the dictionary as it arrives."""
    headers: dict[str, str | float] = {
        "id": "42",
        "mtime": 1.5,
        "claimed-at": 2.5,
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    part = FilePart(path, "application/octet-stream", len(CONTENT), headers, stream)
    file = file_to_dict(part, Parcel(PARCEL, "drop", "here", bytes(root), (part,)), attempt=2, serializer=serializer)
    return msgpack.unpackb(msgpack.packb(file)) if serializer == "msgpack" else loads(dumps(file))


def test_it_has_the_fields_of_an_upload() -> None:
    file = sent()

    assert file["stream"] == CONTENT
    assert (file["name"], file["filename"], file["relative_path"]) == ("drop", "a.pdf", "deep/a.pdf")
    assert (file["content_type"], file["content_length"]) == ("application/pdf", len(CONTENT))
    assert file["path"] == f"/srv/claimed/{PARCEL}/deep/a.pdf"
    assert (file["id"], file["inbox"], file["attempt"], file["parcel"]) == ("42", "drop", 2, PARCEL)


def test_flask_takes_it_as_an_upload(tmp_path: Path) -> None:
    file = sent()

    upload = FileStorage(io.BytesIO(file["stream"]), file["filename"], file["name"], headers=Headers(file["headers"]))
    upload.save(tmp_path / "saved.pdf")

    assert (upload.filename, upload.name, upload.mimetype, upload.content_length) == (
        "a.pdf",
        "drop",
        "application/pdf",
        len(CONTENT),
    )
    assert (tmp_path / "saved.pdf").read_bytes() == CONTENT


def test_in_json_a_file_goes_by_its_path() -> None:
    file = sent(serializer="json")

    assert file["stream"] is None
    assert file["path"] == f"/srv/claimed/{PARCEL}/deep/a.pdf"
    assert json.loads(json.dumps(file)) == file


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
@pytest.mark.parametrize("name", [b"a.pdf", b"caf\xc3\xa9 \xff\n.pdf", b"x/a.pdf"])
def test_the_client_opens_what_was_sent(serializer: str, name: bytes, tmp_path: Path) -> None:
    path = tmp_path / "claimed" / PARCEL / Path(name.decode("utf-8", "surrogateescape"))
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)

    with inboxd.client.open(sent(name, root=tmp_path, serializer=serializer)) as file:
        assert file.read() == CONTENT
        assert file.raw_filename == name.rpartition(b"/")[2]
        assert file.relative_path.encode("utf-8", "surrogateescape") == name
        assert (file.id, file.inbox, file.parcel, file.attempt) == ("42", "drop", PARCEL, 2)
        assert (file.content_type, file.size, file.path) == ("application/pdf", len(CONTENT), path)
        assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
        assert file.headers["mtime"] == 1.5
        assert not file.can_have_outputs


def test_the_client_says_that_a_file_is_not_on_this_host(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inboxd.client.open(sent(stream=None, root=tmp_path))


@pytest.mark.parametrize("packed", [None, 7, "", "%%%", "AAA", base64.b64encode(b"\x91" * 2000).decode(), "kA" * 50])
def test_an_answer_that_is_malformed_is_refused(packed: object) -> None:
    with pytest.raises(InvalidMessage):
        unpack_outcome(packed)
