"""Take the pictures of docs/web.md: a stand with believable files below /srv/drop, in a mount namespace of its own.

    unshare --mount sh -c 'mount -t tmpfs tmpfs /srv && PYTHONPATH=tests:. python bench/web_pictures.py docs'

Needs root and Chromium.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

import redis
from playwright.sync_api import Browser, expect
from support.free_port import free_port
from support.live.stand import Stand, Table
from support.live.web_stand import WebStand, chromium

from inboxd.broker.counters import DAY_KEY, HOUR_SECONDS

WIDTH, HEIGHT = 1000, 760
WAIT_MS = 60_000
FAILURES = (
    (b"2026/11/ACME-4711.pdf", "the invoice has no total"),
    (b"2026/11/ACME-4712.pdf", "the invoice has no total"),
    (b"2026/11/Lindqvist 0093.pdf", "the customer number 88213 is unknown"),
    (b"scan-0017.pdf", "the PDF is encrypted"),
    (b"2026/11/M\xc3\xbcller & S\xc3\xb6hne.pdf", "the invoice has no total"),
    (b"statement.docx", "only PDF files can be booked"),
)
TIMELINE = "/file?inbox=invoices&folder=failed&path=2026/11/ACME-4711.pdf"


class DropStand(Stand):
    """A stand whose inboxes are below /srv/drop, as an administrator's."""

    def root(self, inbox: str = "drop") -> Path:
        """Return an inbox's root."""
        return Path("/srv/drop") / inbox


def write_day(client: redis.Redis, inbox: str, scale: int) -> None:
    """Write the counters of a working day up to now."""
    chance = random.Random(inbox)  # noqa: S311 - the same picture each time
    now = int(time.time() // HOUR_SECONDS)
    for hour in range(now - 23, now + 1):
        local = time.localtime(hour * HOUR_SECONDS)
        at_work = max(0.0, 1 - abs(local.tm_hour - 12.5) / 7)
        done = int(scale * at_work * chance.uniform(0.6, 1.0)) + chance.randint(0, 3)
        failed = int(done * chance.uniform(0, 0.03))
        key = f"{DAY_KEY}stand:{inbox}:{time.strftime('%Y-%m-%d', local)}"
        client.hincrby(key, f"hour:{hour}:done", done)
        client.hincrby(key, f"hour:{hour}:failed", failed)
        if time.strftime("%d", local) == time.strftime("%d"):
            client.hincrby(key, "outcome:done", done)
            client.hincrby(key, "outcome:failed", failed)
            client.hincrby(f"inboxd:counts:stand:{inbox}", "outcome:done", done)


def main(target: Path) -> None:
    """Take the three pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stand"
        folder.mkdir()
        port = free_port()
        log: Table = {"format": "json", "files": [str(folder / f"{p}.log") for p in ("watcher", "worker", "beat")]}
        inboxes = {"invoices": {"retries": 1}, "scans": {}}
        with DropStand(folder, inboxes, web={"listen": f"127.0.0.1:{port}"}, log=log) as stand, chromium() as browser:
            page = WebStand(stand, port).start()
            write_day(stand.client, "invoices", 420)
            write_day(stand.client, "scans", 130)
            for file, reason in FAILURES:
                page.fail(file, reason, "invoices")
            scans = 5
            for number in range(scans):
                stand.drop(b"scan-%04d.pdf" % number, b"describe me", "scans")
            stand.wait_until(lambda: len(stand.names("done", "scans")) == scans, awaited="five files in done/")
            take_pictures(browser, page.address, target)


def take_pictures(browser: Browser, address: str, target: Path) -> None:
    """Take the overview in light, the failed files in dark, and a timeline."""
    for name, path, scheme in (("overview", "/", "light"), ("failed", "/failed", "dark"), ("timeline", TIMELINE, "light")):
        with browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light", viewport={"width": WIDTH, "height": HEIGHT}, locale="en-GB"
        ) as context:
            page = context.new_page()
            page.goto(address + path)
            if name == "overview":
                expect(page.get_by_text("All programs run")).to_be_visible(timeout=WAIT_MS)
                expect(page.get_by_role("link", name="6 failed files of invoices")).to_be_visible(timeout=WAIT_MS)
            page.screenshot(path=target / f"web-{name}.png", full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
