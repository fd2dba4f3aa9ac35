"""Handlers for the live tests, which the workers import: a file's first words are a command for its handler."""

import io
import json
import locale
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from inboxd import InboxFile, RejectFile
from inboxd.handlers import describe

FOLDER = Path(os.environ["STAND_FOLDER"])


def execute_command(file: InboxFile) -> Any:  # noqa: ANN401 - any result
    """Record the call and execute the file's command, such as "sleep 2"; without a known command describe the file."""
    record_call(file)
    words = file.stream.read(200).split(b"\n")[0].decode("utf-8", "replace").split(" ", 1)
    file.stream.seek(0)
    return COMMANDS.get(words[0], _describe)(file, words[-1])


def record_call(file: InboxFile) -> None:
    """Append one line to the stand's calls file, by one write, since many processes append at the same time."""
    line = {
        "path": file.relative_path, "sha256": file.sha256, "attempt": file.attempt, "pid": os.getpid(), "parcel": file.parcel,
        "id": file.id,
    }  # fmt: skip
    calls_fd = os.open(FOLDER / "handler_calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(calls_fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(calls_fd)


def sleep_20_ms(file: InboxFile) -> None:
    """Record the call and sleep 20 ms."""
    record_call(file)
    time.sleep(0.02)


def _describe(file: InboxFile, _words: str) -> Any:  # noqa: ANN401
    return describe(file)


def _reject(_file: InboxFile, reason: str) -> None:
    raise RejectFile(reason)


def _always_raise(_file: InboxFile, words: str) -> None:
    raise ValueError(words)


def _raise_twice(file: InboxFile, _words: str) -> str:
    """Raise in the first two calls, which a file counts: the count does not depend on ``file.attempt``."""
    counter = FOLDER / f"calls-{file.id}"
    with counter.open("ab") as calls:
        calls.write(b".")
    if counter.stat().st_size <= 2:
        raise ConnectionError("the archive is unavailable")
    return "done at last"


def _sleep(_file: InboxFile, words: str) -> None:
    time.sleep(float(words))


def _make_large_output(file: InboxFile, size: str) -> None:
    """Make one output of this size in bytes."""
    with file.output("large") as output:
        output.write(b"x" * int(size))


def _make_outputs(file: InboxFile, words: str) -> None:
    """Make two outputs, and then do what the words say."""
    with file.output(f"{file.filename}.txt") as first:
        first.write(file.id.encode())
    (file.outputs_folder / "pages").mkdir()
    (file.outputs_folder / "pages" / f"{file.filename}.1").write_text(file.id)
    command, _, rest = words.partition(" ")
    if command in COMMANDS:
        COMMANDS[command](file, rest)


def _hold(_file: InboxFile, _words: str) -> None:
    """Wait until the file "release" is in the stand's folder."""
    while not (FOLDER / "release").exists():
        time.sleep(0.02)


def _die(_file: InboxFile, _words: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _exit(_file: InboxFile, _words: str) -> None:
    raise SystemExit(3)


def _memory(_file: InboxFile, _words: str) -> None:
    raise MemoryError


def _ignore_stop(_file: InboxFile, _words: str) -> None:
    """Sleep 60 s and ignore every exception, such as the soft time limit."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(0.1)
        except BaseException:  # noqa: BLE001 - including SystemExit
            continue


_open_files: list[TextIO] = []


def _keep_deleted(file: InboxFile, _words: str) -> None:
    """Delete a scratch file beside the file, and keep it open: a network mount then gives it another name."""
    scratch = Path(os.fsdecode(file.path)).with_name("scratch")
    _open_files.append(scratch.open("w"))
    scratch.unlink()


def _leave(_file: InboxFile, _words: str) -> None:
    """Change everything in this process that a handler can change."""
    os.umask(0o777)
    os.chdir("/")
    os.environ["LEFT"] = "behind"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    signal.alarm(3600)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    sys.stdout = io.StringIO()


def _probe(_file: InboxFile, _words: str) -> dict[str, Any]:
    """Return what a handler finds in its process."""
    umask = os.umask(0)
    os.umask(umask)
    return {
        "pid": os.getpid(), "umask": umask, "folder": str(Path.cwd()), "left": os.environ.get("LEFT"),
        "ignored": [number.name for number in (signal.SIGTERM, signal.SIGUSR1) if signal.getsignal(number) is signal.SIG_IGN],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0], "locale": locale.setlocale(locale.LC_ALL), "nice": os.nice(0),
        "stdout": type(sys.stdout).__name__,
    }  # fmt: skip


def _print(file: InboxFile, words: str) -> None:
    """Print lines, one of which looks like one of inboxd's; in Python, in a subprocess, and without a line end."""
    ghost = {"event": "file_done", "inbox": file.inbox, "file": "ghost", "parcel": file.parcel, "filed": "ghost"}
    sys.stdout.write(f"out {words}\n{json.dumps(ghost)}\n")
    sys.stderr.write(f"err {words}\n")
    subprocess.run(["echo", "child", words], check=True)
    sys.stdout.write("no line end")


def _flood(_file: InboxFile, words: str) -> None:
    for number in range(int(words)):
        sys.stdout.write(f"{number}{'x' * 5000}\n")


def _close_output(_file: InboxFile, words: str) -> int:
    """Take standard output and standard error away in one of several ways."""
    if words == "descriptors":
        os.close(1)
        os.close(2)
    elif words == "streams":
        sys.stdout.close()
        sys.stderr.close()
    else:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    return os.getpid()


def _lower_limits(_file: InboxFile, _words: str) -> int:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    return os.getpid()


def _become_nobody(_file: InboxFile, _words: str) -> int:
    if os.geteuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)
    return os.getpid()


def _stop_self(_file: InboxFile, words: str) -> None:
    """End as the pool ends its processes."""
    if words == "exit":
        raise SystemExit(-(256 - signal.SIGTERM))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3)


def _leak(_file: InboxFile, words: str) -> int:
    """Leave files open; return the process's number."""
    _leaked.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(int(words)))
    return os.getpid()


def _be_nice(_file: InboxFile, _words: str) -> int:
    os.nice(5)
    return os.getpid()


def _start_family(_file: InboxFile, words: str) -> None:
    """Start programs in three ways, of which none is waited for, and exceed the time limit."""
    subprocess.Popen(["sleep", words])
    subprocess.Popen(f"sleep {words} & sleep {words}", shell=True)
    subprocess.Popen(["sh", "-c", f"sleep {words} & exit"], start_new_session=True)
    time.sleep(60)


def _die_with_family(_file: InboxFile, words: str) -> None:
    subprocess.Popen(["sleep", words], start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)


def _work_in_parallel(_file: InboxFile, _words: str) -> list[int]:
    with multiprocessing.Pool(2) as pool:
        doubled = pool.map(_double, [1, 2, 3])
    with ProcessPoolExecutor(2) as executor:
        return [*doubled, *executor.map(_double, [4, 5])]


def _double(number: int) -> int:
    return 2 * number


_leaked: list[int] = []

COMMANDS: dict[str, Callable[[InboxFile, str], Any]] = {
    "reject": _reject,
    "always_raise": _always_raise,
    "raise_twice": _raise_twice,
    "sleep": _sleep,
    "hold": _hold,
    "make": _make_outputs,
    "make_large": _make_large_output,
    "die": _die,
    "exit": _exit,
    "memory": _memory,
    "ignore_stop": _ignore_stop,
    "keep_deleted": _keep_deleted,
    "leave": _leave,
    "probe": _probe,
    "print": _print,
    "flood": _flood,
    "close_output": _close_output,
    "lower_limits": _lower_limits,
    "become_nobody": _become_nobody,
    "stop_self": _stop_self,
    "leak": _leak,
    "be_nice": _be_nice,
    "family": _start_family,
    "die_with_family": _die_with_family,
    "parallel": _work_in_parallel,
}
