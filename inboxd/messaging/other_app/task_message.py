"""What the task of another Celery app gets: its argument ``file``, and the callbacks that its worker sends to this host."""

import io
from base64 import b64decode, b64encode
from typing import Any, cast

import msgpack
from celery import Celery, signature

from inboxd.config.rules import Inbox
from inboxd.content.detect import detect
from inboxd.errors import InvalidMessage
from inboxd.messaging.outcome import FileOutcome, Outcome, Verdict, outcome_to_wire
from inboxd.messaging.payload import FilePart, Parcel
from inboxd.spool.layout import CLAIMED

TASK_SUCCESS_CALLBACK = "inboxd.task_succeeded"
TASK_FAILURE_CALLBACK = "inboxd.task_failed"
JSON_TASKS = (TASK_SUCCESS_CALLBACK, TASK_FAILURE_CALLBACK)
"""The tasks whose messages may be JSON: an app without msgpack sends them."""


def task_message(app: Celery, parcel: Parcel, inbox: Inbox, callback: dict[str, Any], attempt: int) -> dict[str, Any]:
    """Return the options of ``send_task`` for a parcel's only file, with which any version of Celery 5 finds its own task.

    The callbacks carry what they need, in the serializer of the task, so that the other app's settings don't matter.
    """
    (part,) = parcel.files
    options = {**callback, "serializer": inbox.serializer, "priority": 0, "ignore_result": True}
    done = FileOutcome(part.filename, Verdict.DONE, version=part.version)
    outcome = _pack(outcome_to_wire(Outcome(parcel.id, parcel.inbox, attempt, (done,), parcel.unreadable)))

    def answer(task: str, *args: str) -> Any:  # noqa: ANN401 - celery.canvas.Signature
        return signature(task, args=args, immutable=True, options=options, app=app)

    return {
        "kwargs": {"file": file_to_dict(part, parcel, attempt=attempt, serializer=inbox.serializer)},
        "queue": inbox.queue,
        "serializer": inbox.serializer,
        "link": answer(TASK_SUCCESS_CALLBACK, outcome),
        "link_error": answer(TASK_FAILURE_CALLBACK, parcel.inbox, parcel.id, str(attempt)),
    }


def file_to_dict(part: FilePart, parcel: Parcel, *, attempt: int, serializer: str) -> dict[str, Any]:
    """Return a file as a dictionary with the fields of an upload, and where it is on the folders' host.

    ``stream`` has the bytes, None if the file goes by its path: if it is large, or if the serializer is JSON. ``path`` is a
    str; if it is not UTF-8, bytes in msgpack, and in JSON a str from which ``os.fsencode`` makes the bytes again.
    """
    # as browsers' uploads, which have no backslash: Windows, and Django, take it for a folder
    name = part.filename.rpartition(b"/")[2].decode("utf-8", "replace").replace("\\", "_")
    content_type = part.content_type if part.stream is None else detect(io.BytesIO(part.stream), name)
    path = b"/".join((parcel.root, CLAIMED, parcel.id.encode(), part.filename))
    return {
        "stream": part.stream if serializer == "msgpack" else None,
        "name": parcel.inbox,
        "filename": name,
        "content_type": content_type,
        "content_length": part.content_length,
        "headers": {"Content-Type": content_type, "Content-Length": str(part.content_length), **part.headers},
        "id": part.headers["id"],
        "path": _to_text(path, serializer),
        "relative_path": part.filename.decode("utf-8", "backslashreplace"),
        "inbox": parcel.inbox,
        "parcel": parcel.id,
        "attempt": attempt,
        "sha256": part.headers.get("sha256"),
    }


def _to_text(path: bytes, serializer: str) -> str | bytes:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return path if serializer == "msgpack" else path.decode("utf-8", "surrogateescape")


def _pack(wire: dict[str, Any]) -> str:
    return b64encode(cast("bytes", msgpack.packb(wire))).decode()


def unpack_outcome(packed: object) -> object:
    """Return the outcome that a callback has carried through the other app, unchecked. Raises InvalidMessage."""
    try:
        return msgpack.unpackb(b64decode(packed, validate=True), raw=False)  # type: ignore[arg-type]  # checked by it
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidMessage(f"malformed outcome: {error}") from error
