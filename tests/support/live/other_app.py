"""Somebody else's Celery app on the same Redis: JSON, Celery's own names, and a visibility timeout from the environment."""

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("neighbour", broker=os.environ["NEIGHBOUR_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_default_queue="neighbour",
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": int(os.environ["NEIGHBOUR_VISIBILITY_TIMEOUT"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)


@app.task(name="neighbour.work")
def work(seconds: float, record: str) -> None:
    """Write down that it was called, and take so long."""
    with Path(record).open("a", encoding="ascii") as calls:
        calls.write("called\n")
    time.sleep(seconds)
