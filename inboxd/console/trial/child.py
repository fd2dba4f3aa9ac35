"""The process in which `inboxd try` runs a handler on one file, by the code of the worker's."""

import json
import logging
import os
import signal
import sys
import time
import traceback
from typing import NoReturn, TextIO

import msgpack
from celery.exceptions import SoftTimeLimitExceeded

from inboxd.config.handler_kinds import HandlerKeys
from inboxd.config.trusted_import import append_to_path
from inboxd.console.trial.process import STARTED
from inboxd.fs.syscalls import Disk
from inboxd.handling import run_handler
from inboxd.handling.run_handler import HandlerCall
from inboxd.messaging.parcel_reader import ParcelReader
from inboxd.messaging.payload import Parcel, parcel_from_wire


def main() -> None:
    """Read a parcel of one file from standard input, run the handler on it, and write the report.

    The only argument is JSON: the handler's keys, the template of its outputs, the folders to import it from, the time limit in
    seconds, the report's descriptor. The report has two lines: STARTED, and a JSON object with the handler call.
    """
    handler, outputs, folders, limit_seconds, report_fd = json.loads(sys.argv[1])
    os.set_inheritable(report_fd, False)  # noqa: FBT003 - positional only
    parcel = parcel_from_wire(msgpack.unpackb(sys.stdin.buffer.read()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    for folder in folders:
        append_to_path(folder)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    signal.signal(signal.SIGUSR1, _exceed_time_limit)  # the signal by which Celery's pool interrupts a task
    with os.fdopen(report_fd, "w", encoding="ascii") as report:
        _write_line(report, STARTED)
        call = _run(HandlerKeys(**handler), outputs, parcel, limit_seconds)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if call.error is not None:
            _print_traceback(call.error)
        _flush_output()
        _write_line(report, json.dumps(_to_json(call)))


def _exceed_time_limit(_number: int, _frame: object) -> NoReturn:
    raise SoftTimeLimitExceeded


def _run(keys: HandlerKeys, outputs: str, parcel: Parcel, limit_seconds: int) -> HandlerCall:
    start_time = time.monotonic()
    with ParcelReader(Disk(), parcel, on_this_host=True, attempt=1, output_template=outputs) as reader:
        try:
            file = reader.open(parcel.files[0])
            function = run_handler.load_handler(keys)  # an import counts as processing, too
        except SoftTimeLimitExceeded as error:
            return run_handler.failed_call(error, limit_seconds, start_time)
        return run_handler.run_handler(function, file, limit_seconds, start_time)


def _print_traceback(error: BaseException) -> None:
    """Print a traceback without inboxd's own calls at its beginning."""
    frames, ours = error.__traceback__, os.path.dirname(run_handler.__file__)  # noqa: PTH120 - text
    while frames and os.path.dirname(frames.tb_frame.f_code.co_filename) == ours:  # noqa: PTH120
        frames = frames.tb_next
    traceback.print_exception(error.with_traceback(frames), file=sys.__stderr__)


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the handler has closed or replaced it
            continue


def _to_json(call: HandlerCall) -> dict[str, object]:
    """Return what the parent shows of a call; the result as its repr."""
    return {
        "verdict": call.verdict.value, "reason": call.reason, "seconds": call.seconds, "result": repr(call.result),
        "discarded": call.discarded,
    }  # fmt: skip


def _write_line(report: TextIO, line: str) -> None:
    report.write(line + "\n")
    report.flush()


if __name__ == "__main__":
    main()
