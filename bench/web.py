"""Time the pages of `inboxd web` with many failed files while files are processed, and that work's rate with and without it.

    PYTHONPATH=tests:. python bench/web.py --failed 100000 --rate 1000 --seconds 40

Needs tmpfs (/dev/shm). Prints a table of the pages' times and the rates.
"""

import argparse
import http.client
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.free_port import free_port
from support.live.stand import Stand
from support.live.web_stand import WebStand

from inboxd.spool.error_note import format_note, note_name
from inboxd.spool.layout import new_parcel_id

PAGES = (
    "/",
    "/failed",
    "/failed?page=1000",
    "/failed?reason=refused&inbox=drop",
    "/failed?name=00001",
    "/retry",
    "/file?inbox=drop&folder=failed&path=invoice-000042.pdf",
    "/search?q=invoice-000042.pdf",
    "/timeline?inbox=drop&folder=failed&path=invoice-000042.pdf",
)
REASONS = ("Connection refused by db1", "no total", "the PDF is encrypted", "the customer is unknown", "timeout after 30 s")
WARM_UP = 3


def fill(stand: Stand, count: int) -> None:
    """Write failed files with their notes, as callbacks do."""
    folder = bytes(stand.path("failed")) + b"/"
    for number in range(count):
        name = b"invoice-%06d.pdf" % number
        reason = f"{REASONS[number % len(REASONS)]} ({number % 97})"
        note = format_note(name, reason, inbox="drop", parcel=new_parcel_id(), attempts=1, failed_at=time.time())
        for path, content in ((name, b"x"), (note_name(name), note)):
            with open(folder + path, "wb", buffering=0) as file:  # noqa: PTH123 - bytes
                file.write(content)


@contextmanager
def dropping(stand: Stand, rate: int) -> Iterator[list[int]]:
    """Drop files at a rate for a with block; yield the number dropped so far as a list of one."""
    stopped, dropped = threading.Event(), [0]
    inbox = bytes(stand.path("inbox", inbox="work")) + b"/"

    def run() -> None:
        began = time.monotonic()
        while not stopped.wait(0.02):
            while dropped[0] < (time.monotonic() - began) * rate:
                with open(inbox + b"%d-%d" % (os.getpid(), time.monotonic_ns()), "wb", buffering=0) as file:  # noqa: PTH123
                    file.write(b"describe")
                dropped[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield dropped
    finally:
        stopped.set()
        thread.join()


def count_done(stand: Stand) -> int:
    """Return the number of files in done/ of the inbox that is worked on."""
    return sum(1 for _ in os.scandir(stand.path("done", inbox="work")))


def measure_rate(stand: Stand, seconds: float) -> float:
    """Return the files done per second."""
    before, began = count_done(stand), time.monotonic()
    threading.Event().wait(seconds)
    return (count_done(stand) - before) / (time.monotonic() - began)


def time_pages(address: str, seconds: float) -> dict[str, list[float]]:
    """Load each page in turn for some seconds; return their times in ms, without the first ones."""
    times: dict[str, list[float]] = {page: [] for page in PAGES}
    connection = http.client.HTTPConnection(address, timeout=60)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for page in PAGES:
            began = time.monotonic()
            connection.request("GET", page)
            reply = connection.getresponse()
            reply.read()
            assert reply.status in (200, 404), f"{page}: {reply.status}"
            times[page].append((time.monotonic() - began) * 1000)
            threading.Event().wait(0.05)
    return {page: sorted(values[WARM_UP:]) for page, values in times.items()}


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--failed", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="inboxd-web-") as name:
        folder = Path(name) / "stand"
        folder.mkdir()
        port = free_port()
        logs = [str(folder / f"{program}.log") for program in ("watcher", "worker", "beat")]
        rules = {"handler": "inboxd.handlers:describe", "settle_seconds": 0.1}
        web = {"listen": f"127.0.0.1:{port}"}
        with Stand(folder, {"drop": {}, "work": rules}, web=web, log={"format": "json", "files": logs}) as stand:
            run(WebStand(stand, port), options)


def run(page: WebStand, options: argparse.Namespace) -> None:
    """Measure the rate without the page, with it, and without it again; and the pages."""
    stand = page.stand
    fill(stand, options.failed)
    for program in ("watcher", "worker", "beat"):
        stand.programs[program].log.touch()
    stand.start()
    with dropping(stand, options.rate):
        threading.Event().wait(5)
        before = measure_rate(stand, options.seconds)
        page.web.start()
        began = time.monotonic()
        address = page.address.removeprefix("http://")
        while b"still being read" in get(address, "/failed"):
            threading.Event().wait(0.5)
        print(f"index of {options.failed} notes: {time.monotonic() - began:.1f} s")
        times: dict[str, list[float]] = {}
        loader = threading.Thread(target=lambda: times.update(time_pages(address, options.seconds)))
        loader.start()
        during = measure_rate(stand, options.seconds)
        loader.join()
        memory = Path(f"/proc/{page.web.pid}/status").read_text("utf-8").partition("VmRSS:")[2].split()[0]
        cpu = page.web.cpu_seconds()
        page.web.stop()
        after = measure_rate(stand, options.seconds)
    print(f"log of the timeline: {sum(p.log.stat().st_size for p in stand.programs.values()) >> 20} MiB")
    print(f"memory {int(memory) >> 10} MiB, CPU {cpu:.1f} s")
    for path, values in times.items():
        p50, p95 = values[len(values) // 2], values[int(len(values) * 0.95)]
        print(f"{path:40} p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  ({len(values)} loads)")
    print(f"files/s: {before:.0f} without, {during:.0f} with the page, {after:.0f} without")
    sys.stdout.flush()


def get(address: str, path: str) -> bytes:
    """Return a page."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    return connection.getresponse().read()


if __name__ == "__main__":
    main()
