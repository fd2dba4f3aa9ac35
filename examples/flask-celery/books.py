"""The Celery application: inboxd sends it what is dropped into a folder."""

import io
import os

from booking import book
from celery import Celery
from werkzeug.datastructures import FileStorage, Headers

BROKER = os.environ.get("BROKER_URL", "redis://localhost:6379/0")

app = Celery("books", broker=BROKER, backend=BROKER)  # the backend passes the words of RejectFile on
app.conf.update(accept_content=["json", "msgpack"], task_acks_late=True)


def open_file(file):
    """Return the content of a dropped file, open for reading: small ones come along, others lie in a folder of inboxd."""
    if file["stream"] is not None:
        return io.BytesIO(file["stream"])
    return open(file["path"], "rb")


@app.task(name="books.book_file")
def book_file(file):
    """Book a dropped file, as an uploaded one is booked."""
    with open_file(file) as stream:
        upload = FileStorage(
            stream,
            filename=file["filename"],
            name=file["name"],
            content_type=file["content_type"],
            content_length=file["content_length"],
            headers=Headers(file["headers"]),
        )
        return book(upload, key=file["id"])
