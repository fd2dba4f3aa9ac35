"""Drill of the kinds of handlers: files go through each kind while faults are injected; then print what became of them.

`make drill ARGS="--handlers all --files 1500 --faults 100 --seed 1"`. Each kind has an inbox: a function, a command, a webhook
whose answer is kept, a task of another Celery project, a chain, and a pipeline of two inboxes. Some files are rejected, some
fail, some succeed at the second attempt only. The exit code is 1 if a file was lost or filed wrongly, or an output delivered
twice, changed, or without its source; the folder is then kept.
"""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.live.other_project import NEW, TASK, OtherProject
from support.live.stand import Program, Stand, Table

ORDERS = {"done": 78, "again": 8, "reject": 6, "fail": 3, "slow": 3, "hang": 2}
"""What the files say, and how many of a hundred say it; the first attempt of "hang" exceeds the time limit."""
TIME_LIMIT_SECONDS, HANG_SECONDS = 4, 12.0
FAILED = ("reject", "fail")
SETTLED_SECONDS = 180.0
"""How long a drill waits for the next file to be filed."""
AWAY_SECONDS = (0.5, 3.0)
SIZES = (10, 2000, 60_000)
SCRIPT = """
case $(head -n1 "$1") in
reject*) echo 'not this one' >&2; exit 65 ;;
fail*) echo 'always' >&2; exit 75 ;;
again*) [ "$INBOXD_FILE_ATTEMPT" -ge 2 ] || exit 75 ;;
slow*) sleep 0.7 ;;
hang*) [ "$INBOXD_FILE_ATTEMPT" -ge 2 ] || sleep 12 ;;
esac
cp "$1" "$2/made"
"""
COMMAND = ["sh", "-c", SCRIPT, "sh", "{path}", "{outputs}"]
NAMED: Table = {"outputs": "{folder}/{name}.made"}
FUNCTION = "bench.drill_handler:make"
KINDS: dict[str, Table] = {
    "function": {"handler": FUNCTION, **NAMED},
    "command": {"command": COMMAND, **NAMED},
    "webhook": {"keep_answer": True, **NAMED},
    "task": {"task": TASK, "answer_seconds": 5, "copies_max": 100},
    "chain": {"handler": [{"command": COMMAND}, FUNCTION], **NAMED},
    "pipeline": {"command": COMMAND, "out": "inbox:second", "outputs": "{folder}/{name}"},
    "second": {"handler": FUNCTION, **NAMED},
}
DROPPED_INTO = tuple(kind for kind in KINDS if kind != "second")


class Receiver:
    """The server of the webhook: it answers with what it was sent, and is away at times."""

    def __init__(self) -> None:
        self.is_away = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                order = body.split(b" ", 1)[0].decode("ascii", "replace")
                if receiver.is_away:
                    self.close_connection = True
                    return
                is_first = int(self.headers["Inboxd-Attempt"]) == 1
                if order == "slow" or (order == "hang" and is_first):
                    time.sleep(0.7 if order == "slow" else HANG_SECONDS)
                is_late = order == "again" and is_first
                status = {"reject": 422, "fail": 503}.get(order, 503 if is_late else 200)
                answer = body if status == 200 else b"not this one"  # noqa: PLR2004 - OK
                with contextlib.suppress(ConnectionError):  # a killed worker waits for no answer
                    self._answer(status, answer, is_kept=answer is body)

            def _answer(self, status: int, answer: bytes, *, is_kept: bool) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/octet-stream" if is_kept else "text/plain")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Print nothing."""

        return Handler


class KindsDrill:
    """One run on one stand."""

    def __init__(self, stand: Stand, project: OtherProject, receiver: Receiver, seed: int) -> None:
        self.stand = stand
        self.dropped: dict[str, dict[bytes, tuple[str, bytes]]] = {kind: {} for kind in DROPPED_INTO}
        self.faults: Counter[str] = Counter()
        self._random = random.Random(f"{seed} kinds")  # noqa: S311 - a drill is repeatable
        self._project = project
        self._receiver = receiver

    def run(self, files: int, faults: int, every: float) -> float:
        """Drop all files while faults are injected; return the seconds that passed until all were filed."""
        self.stand.start()
        self._worker = self._project.worker()
        per_fault = files // faults + 1
        for number in range(faults):
            for _ in range(min(per_fault, files - self.count)):
                self._drop()
            time.sleep(self._random.uniform(0, 2 * every))
            self._inject(number)
        self._receiver.is_away = False
        self._restart(self._worker)  # a plain Celery worker whose server was killed may exit, or hang for ever
        began = changed_at = time.monotonic()
        left = self._count_left()
        while left and time.monotonic() < changed_at + SETTLED_SECONDS:
            time.sleep(0.5)
            before, left = left, self._count_left()
            changed_at = time.monotonic() if left != before else changed_at
        return time.monotonic() - began

    @property
    def count(self) -> int:
        """The number of files that were dropped."""
        return sum(map(len, self.dropped.values()))

    def _drop(self) -> None:
        kind = self._random.choice(DROPPED_INTO)
        (order,) = self._random.choices(list(ORDERS), [*ORDERS.values()])
        number = self.count
        content = f"{order} {number}\n".encode() + self._random.randbytes(self._random.choice(SIZES))
        name = self._random.choice((b"", b"sub/")) + b"%d.bin" % number
        self.stand.drop(name, content, kind)
        self.dropped[kind][name] = order, content

    def _count_left(self) -> int:
        return sum(len({*self.stand.names(folder, kind)}) for kind in KINDS for folder in ("inbox", "claimed"))

    def _inject(self, number: int) -> None:
        faults: dict[str, Callable[[], object]] = {
            "kill -9 worker": lambda: self._restart(self.stand.worker),
            "kill -9 watcher": lambda: self._restart(self.stand.watcher),
            "kill -9 beat": lambda: self._restart(self.stand.beat),
            "kill -9 server": lambda: self._restart(self.stand.redis),
            "kill -9 the project's worker": lambda: self._restart(self._worker),
            "kill -9 a child of the worker": lambda: self._kill_child(self.stand.worker),
            "kill -9 a child of the project's worker": lambda: self._kill_child(self._worker),
            "SIGTERM worker": self._stop_worker,
            "FLUSHALL": self.stand.client.flushall,
            "the webhook's server away": self._toggle_receiver,
        }
        kind = self._random.choice(list(faults)) if number >= len(faults) else list(faults)[number]
        self.faults[kind] += 1
        with contextlib.suppress(OSError):
            faults[kind]()

    def _restart(self, program: Program) -> None:
        if program.running:
            program.kill9()
        program.start()

    def _stop_worker(self) -> None:
        self.stand.worker.stop()
        self.stand.worker.start()

    def _kill_child(self, program: Program) -> None:
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
        if children:
            os.kill(int(self._random.choice(children)), signal.SIGKILL)

    def _toggle_receiver(self) -> None:
        self._receiver.is_away = True
        threading.Timer(self._random.uniform(*AWAY_SECONDS), lambda: setattr(self._receiver, "is_away", False)).start()

    def wrong(self) -> Iterator[str]:
        """Yield what is wrong with the folders."""
        for kind, files in self.dropped.items():
            yield from self._wrong_files(
                kind, {name: (order not in FAILED, content) for name, (order, content) in files.items()}
            )
            done = {name: content for name, (order, content) in files.items() if order not in FAILED}
            if kind == "pipeline":
                yield from self._wrong_files("second", {name: (True, content) for name, content in done.items()})
                yield from self._wrong_outputs("second", done)
            else:
                yield from self._wrong_outputs(kind, {} if kind == "task" else done)

    def _wrong_files(self, kind: str, files: dict[bytes, tuple[bool, bytes]]) -> Iterator[str]:
        done = self.stand.tree("done", kind)
        failed = {name: sha for name, sha in self.stand.tree("failed", kind).items() if not name.endswith(b".error.txt")}
        for name, (is_done, content) in files.items():
            sha = hashlib.sha256(content).hexdigest()
            here, there = (done, failed) if is_done else (failed, done)
            if here.get(name) != sha:
                where = ", but in the other" if name in there else ""
                yield f"{kind}: {name!r} is not in {'done' if is_done else 'failed'}/{where}"
        for name in (done.keys() | failed.keys()) - files.keys():
            yield f"{kind}: {name!r} was not dropped, or is there twice"
        yield from (f"{kind}: left in claimed/ or inbox/: {name!r}" for name in self.stand.names("claimed", kind))

    def _wrong_outputs(self, kind: str, done: dict[bytes, bytes]) -> Iterator[str]:
        top = self.stand.root(kind) / "out"
        found = {os.fsencode(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}
        for name, content in done.items():
            if (output := found.pop(name + b".made", None)) != content:
                yield f"{kind}: the output of {name!r} is {'missing' if output is None else 'changed'}"
        yield from (f"{kind}: the output {name!r} is there twice, or without its source" for name in found)


def run(files: int, faults: int, seed: int, every: float) -> int:
    """Run a drill, and print what became of the files; return the exit code."""
    print(f"drill of all kinds: {files} files, {faults} faults, seed {seed}", flush=True)
    receiver = Receiver()
    rules = {
        kind: {"retries": 20, "retry_backoff_max_seconds": 1.0, "time_limit_seconds": TIME_LIMIT_SECONDS, **keys}
        for kind, keys in KINDS.items()
    }
    rules["webhook"]["url"] = receiver.url
    folder = Path(tempfile.mkdtemp(prefix="inboxd-drill-"))
    with Stand(folder, rules, work={"crashes_max": 100}) as stand:
        project = OtherProject(stand, NEW, backend=True, accept_content=["json", "msgpack"], task_acks_late=True)
        drill = KindsDrill(stand, project, receiver, seed)
        seconds = drill.run(files, faults, every)
        wrong = list(drill.wrong())
    receiver.close()
    for fault, count in sorted(drill.faults.items()):
        print(f"  {count:5}  {fault}")
    for kind, dropped in drill.dropped.items():
        orders = Counter(order for order, _ in dropped.values())
        print(f"  {len(dropped):5}  {kind}: " + ", ".join(f"{count} {order}" for order, count in sorted(orders.items())))
    print(f"  {seconds:5.1f}  seconds from the last fault until all files were filed")
    print(f"  {len(wrong):5}  wrong")
    for text in wrong[:20]:
        print(f"         {text}")
    if wrong:
        print(f"         kept for inspection: {folder}")
    else:
        shutil.rmtree(folder)
    return bool(wrong)
