"""Time the kinds of handlers against the plain ways.

A command against xargs, a webhook against clients that keep their connections, and a task of another Celery project against
watchdog and that project alone, with a callback that moves each file.

    PYTHONPATH=tests:. python bench/handlers.py --files 4000 --repeats 3

Needs tmpfs (/dev/shm), 2 cores, and the extra web for the server. Files of 4 KiB, settle 0, two slots each. The aims: a
command's rate at least 0.8 of xargs', a webhook's at least 0.7 of the clients', a task's at least 3 times the plain way. The
exit code says whether they are met.
"""

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Process
from pathlib import Path

from support.free_port import free_port
from support.live.other_project import NEW, OtherProject
from support.live.stand import Stand

from inboxd.broker import heartbeat

SLOTS = 2
CONTENT = os.urandom(4096)
DEFAULT_INTERVALS: dict[str, dict[str, object]] = {
    "work": {"lease_seconds": 15.0},
    "sweep": {"missed_seconds": 15.0, "stale_seconds": 15.0, "grace_seconds": 5.0},
}
"""Those of settings.toml: a stand sweeps every second, for tests that wait for a sweep."""
REGISTERED_SECONDS = 2 * heartbeat.EVERY_SECONDS
"""Time after which the watcher knows that the workers see the folders: until then, messages carry the files' bytes."""
PROJECT = """
import hashlib, json, os
from celery import Celery
app = Celery("project", broker=os.environ["BROKER"])
app.conf.update(json.loads(os.environ["CONF"]))
@app.task(name="project.digest")
def digest(file):
    return hashlib.sha256(file["stream"]).hexdigest()
"""
SERVER = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})
"""


def make_files(folder: Path, count: int) -> list[Path]:
    """Write files, and return their paths."""
    folder.mkdir()
    paths = [folder / f"{number:06d}.bin" for number in range(count)]
    for path in paths:
        path.write_bytes(CONTENT)
    return paths


def time_inboxd(rules: dict[str, object], count: int, project: str = "") -> float:
    """Return the files per second of an inbox, from the drop of all files by one rename until the last one is in done/.

    ``project`` is the module of another Celery project, whose worker runs beside.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="inboxd-handlers-") as name:
        folder = Path(name) / "stand"
        folder.mkdir()
        with Stand(folder, {"drop": {"settle_seconds": 0.0, **rules}}, log={"format": "json"}, **DEFAULT_INTERVALS) as stand:
            stand.start()
            if project:
                (folder / "project.py").write_text(project)
                other = OtherProject(stand, NEW, accept_content=["json", "msgpack"], task_ignore_result=True)
                other.environment["PYTHONPATH"] = str(folder)
                other.worker(app="project")
            staged = Path(name) / "warm"
            make_files(staged, 50)
            staged.rename(stand.path("inbox", b"warm"))
            wait_for(stand, b"warm", 50)
            time.sleep(REGISTERED_SECONDS)
            staged = Path(name) / "files"
            make_files(staged, count)
            began = time.monotonic()
            staged.rename(stand.path("inbox", b"files"))
            wait_for(stand, b"files", count)
            return count / (time.monotonic() - began)


def wait_for(stand: Stand, folder: bytes, count: int) -> None:
    """Wait until so many files are in a sub-folder of done/."""
    path = stand.path("done", folder)
    while not path.exists():
        time.sleep(0.01)
    wait_for_files(path, count)


def wait_for_files(folder: Path, count: int) -> None:
    """Wait until so many files are in a folder. While many are missing, look seldom: both cores are for what is measured."""
    while missing := count - len(os.listdir(folder)):  # noqa: PTH208 - names are enough
        time.sleep(max(missing / 20_000, 0.01))


def time_plain_celery(count: int) -> float:
    """Return the files per second of watchdog and Celery alone, from the first rename into inbox/."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="inboxd-handlers-") as name:
        folder = Path(name) / "stand"
        folder.mkdir()
        with Stand(folder) as stand:
            stand.redis.start()
            paths = make_files(Path(name) / "files", count)
            root = stand.root()
            variables = stand.environment(BENCH_ROOT=str(root), BENCH_URL=f"unix://{stand.socket}")
            app = (sys.executable, "-m", "celery", "-A", "bench.peers.with_celery.tasks")
            worker = (*app, "worker", "-c", str(SLOTS), "-l", "info")
            stand.program("plain", worker, lambda _: " ready." in stand.programs["plain"].text(), environment=variables).start()
            watcher = (sys.executable, "-m", "bench.peers.with_celery.watch")
            stand.program("plain-watcher", watcher, environment=variables).start()
            time.sleep(1.0)
            began = time.monotonic()
            for path in paths:
                path.rename(root / "inbox" / path.name)
            wait_for_files(root / "done", count)
            return count / (time.monotonic() - began)


def time_xargs(count: int) -> float:
    """Return the files per second of xargs with /bin/true."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="inboxd-handlers-") as name:
        paths = make_files(Path(name) / "files", count)
        began = time.monotonic()
        command = ["/usr/bin/xargs", "-0", "-n1", f"-P{SLOTS}", "/bin/true"]
        subprocess.run(command, input="\0".join(map(str, paths)).encode(), check=True)  # noqa: S603 - what is measured
        return count / (time.monotonic() - began)


def time_clients(port: int, count: int) -> float:
    """Return the files per second of clients, each with one connection that is kept."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="inboxd-handlers-") as name:
        paths = make_files(Path(name) / "files", count)
        clients = [Process(target=post, args=(port, paths[slot::SLOTS])) for slot in range(SLOTS)]
        began = time.monotonic()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return count / (time.monotonic() - began)


def post(port: int, paths: Sequence[Path]) -> None:
    """Send files, one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for path in paths:
        connection.request("POST", "/", body=path.read_bytes())
        reply = connection.getresponse()
        reply.read()
        assert reply.status == http.HTTPStatus.NO_CONTENT


@contextmanager
def running_server() -> Iterator[int]:
    """Run a web server, and yield its port."""
    with tempfile.TemporaryDirectory(prefix="inboxd-handlers-") as folder:
        (Path(folder) / "bench_server.py").write_text(SERVER)
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "bench_server:app", "--port", str(port), "--log-level", "warning"]
        server = subprocess.Popen(command, cwd=folder)  # noqa: S603 - this Python
        try:
            wait_for_server(port)
            yield port
        finally:
            server.terminate()
            server.wait()


def wait_for_server(port: int) -> None:
    """Wait until a server answers."""
    while True:
        try:
            post(port, [])
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("POST", "/", body=b"")
            connection.getresponse()
        except OSError:
            time.sleep(0.1)
        else:
            return


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with running_server() as port:
        url = f"http://127.0.0.1:{port}/"
        kinds = {
            "command /bin/true": lambda: time_inboxd({"command": ["/bin/true", "{path}"]}, options.files),
            "xargs -n1 -P2 /bin/true": lambda: time_xargs(options.files),
            "webhook": lambda: time_inboxd({"url": url}, options.files),
            "clients that keep their connection": lambda: time_clients(port, options.files),
            "task of another project": lambda: time_inboxd({"task": "project.digest"}, options.files, PROJECT),
            "watchdog and that project alone": lambda: time_plain_celery(options.files),
        }
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats):
            for kind, measure in kinds.items():
                rates[kind].append(measure())
    for kind, values in rates.items():
        print(f"{kind:<36} {statistics.median(values):>8,.0f} files/s ({min(values):,.0f}-{max(values):,.0f})")
    medians = [statistics.median(values) for values in rates.values()]
    shares = {
        "command, share of xargs": (medians[0] / medians[1], 0.8),
        "webhook, share of the clients": (medians[2] / medians[3], 0.7),
        "task, times the plain way": (medians[4] / medians[5], 3.0),
    }
    for title, (share, aim) in shares.items():
        print(f"{title}: {share:.2f} (>= {aim}) {'ok' if share >= aim else 'MISSED'}")
    sys.exit(any(share < aim for share, aim in shares.values()))


if __name__ == "__main__":
    main()
