"""Another Celery app on the same Redis: Celery's default names and serializer, a visibility timeout from the environment."""

import os
import time
from pathlib import Path

from celery import Celery

app = Celery("other", broker=os.environ["OTHER_BROKER"])
app.conf.update(
    task_acks_late=True,
    task_default_queue="other",
    worker_prefetch_multiplier=1,
    broker_transport_options={
        "visibility_timeout": int(os.environ["OTHER_VISIBILITY_TIMEOUT"]),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)


@app.task(name="other.sleep")
def sleep(seconds: float, calls_file: str) -> None:
    """Append a line to ``calls_file`` and sleep."""
    with Path(calls_file).open("a", encoding="ascii") as calls:
        calls.write("called\n")
    time.sleep(seconds)
