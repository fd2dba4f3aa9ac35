"""A slow handler that writes down when it was at work, on the clock that all processes of this machine share."""

import json
import os
import time

from inboxd import InboxFile

SECONDS = 0.2
RECORD = "calls.jsonl"


def handle(file: InboxFile) -> None:
    """Take a while over a file."""
    begun = time.monotonic()
    time.sleep(SECONDS)
    line = {"file": file.filename, "pid": os.getpid(), "begun": begun, "ended": time.monotonic()}
    target = os.open(os.path.join(os.environ["BENCH_ROOT"], RECORD), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)  # noqa: PTH118
    try:
        os.write(target, json.dumps(line).encode() + b"\n")  # in one write: many processes do so at a time
    finally:
        os.close(target)
