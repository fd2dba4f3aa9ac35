"""Somebody else's Celery project: default settings but what the environment says. It knows nothing of inboxd."""

import hashlib
import json
import os
import time
from pathlib import Path

from celery import Celery

app = Celery("invoices", broker=os.environ["BROKER"], backend=os.environ.get("BACKEND") or None)
app.conf.update(json.loads(os.environ.get("CONF", "{}")))


class RejectFile(Exception):
    """The file is at fault; inboxd knows such an error by its name."""


def read(file):
    """Return the content of a file, which comes along or is read where it lies."""
    if file["stream"] is not None:
        return file["stream"]
    with open(file["path"], "rb") as stream:  # noqa: PTH123 - bytes, perhaps
        return stream.read()


def obey(self, order, argument, attempt):
    """Do what the first words of a file say."""
    match order:
        case "fail":
            raise ValueError(argument)
        case "retry" if self.request.retries < 2:
            raise self.retry(countdown=0.1)
        case "again" if self.request.retries < 1:
            raise self.retry(countdown=0.1)
        case "reject":
            raise RejectFile(argument)
        case "sleep":
            time.sleep(float(argument))
        case "slow":
            time.sleep(0.7)
        case "late" if attempt == 1:
            time.sleep(float(argument))
            raise ValueError("of a copy that was given up")
        case "die" if attempt <= int(argument):
            os.kill(os.getpid(), 9)


@app.task(name="invoices.tasks.book", bind=True, max_retries=2)
def book(self, file):
    """Do what the content says, and append a line to the ledger."""
    content = read(file)
    line = {"file": {**file, "stream": None, "path": None}, "sha256": hashlib.sha256(content).hexdigest(), "pid": os.getpid()}
    with Path(os.environ["LEDGER"]).open("a", encoding="ascii") as ledger:
        ledger.write(json.dumps(line) + "\n")
    order, _, argument = content.decode("utf-8", "replace").partition(" ")
    obey(self, order, argument, file["attempt"])
    return len(content)
