"""A stand with `inboxd web`, and Debian's Chromium to look at it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from support.live.stand import DROP, Program, Stand

CHROMIUM = "/usr/bin/chromium"


class WebStand:
    """A stand and its page."""

    def __init__(self, stand: Stand, port: int) -> None:
        self.stand = stand
        self.address = f"http://127.0.0.1:{port}"
        argv = (sys.executable, "-m", "inboxd", "web")
        self.web: Program = stand.program("web", argv, lambda start: '"event": "web_served"' in self.web.text(start))

    def start(self) -> "WebStand":
        """Start the stand and the page."""
        for program in ("watcher", "worker", "beat"):
            self.stand.programs[program].log.touch()  # log.files names them
        self.stand.start()
        self.web.start()
        return self

    def fail(self, name: bytes, reason: str, inbox: str = DROP) -> None:
        """Drop a file that its handler rejects, and wait until it is in failed/ with its note."""
        self.stand.drop(name, f"reject {reason}\n".encode(), inbox)
        self.stand.wait_until(lambda: name in self.stand.names("failed", inbox), awaited=f"{name!r} in failed/")

    def repair(self, name: bytes, inbox: str = DROP) -> None:
        """Change a failed file so that its handler accepts it."""
        self.stand.path("failed", name, inbox).write_text("describe me")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium for a with block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
