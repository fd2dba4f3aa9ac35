"""A slow handler that records when each call began and ended, by CLOCK_MONOTONIC, which all processes share."""

import json
import os
import time

from inboxd import InboxFile

SECONDS = 0.2
RECORD = "calls.jsonl"


def handle(file: InboxFile) -> None:
    """Sleep, then append the call to the record."""
    begun = time.monotonic()
    time.sleep(SECONDS)
    line = {"file": file.relative_path, "pid": os.getpid(), "begun": begun, "ended": time.monotonic()}
    target = os.open(os.path.join(os.environ["BENCH_ROOT"], RECORD), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)  # noqa: PTH118
    try:
        os.write(target, json.dumps(line).encode() + b"\n")  # in one write, since many processes append concurrently
    finally:
        os.close(target)
