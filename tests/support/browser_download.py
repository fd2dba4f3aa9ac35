"""Have a real browser (Chromium) download one address into a folder: ``browser_download.py URL FOLDER``."""

import json
import os
import select
import subprocess
import sys
import tempfile
from typing import Any

BROWSER = (
    "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--remote-debugging-pipe",
    # nothing of the machine that may make it wait: no keyring (by D-Bus), no proxy, no updates, no HTTPS in place of HTTP
    "--password-store=basic", "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--disable-default-apps", "--disable-features=HttpsUpgrades,OptimizationHints",
)  # fmt: skip

ANSWER_SECONDS = 60.0
"""How long the browser may say nothing. Sometimes it never answers, and is then started again."""
STARTS_MAX = 3


class DevTools:
    """The browser's own protocol over two pipes, its descriptors 3 and 4: messages in JSON, each ended by a zero byte."""

    def __init__(self, profile: str) -> None:
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        command = [
            "sh",
            "-c",
            f'exec "$@" 3<&{commands} 4>&{replies}',
            "sh",
            *BROWSER,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self.process = subprocess.Popen(command, pass_fds=(commands, replies), stderr=subprocess.DEVNULL)
        os.close(commands)
        os.close(replies)
        self._buffer = b""
        self._last_id = 0
        self._unread: list[dict[str, Any]] = []
        """Messages that came while another one was waited for: a small file is downloaded before its command is answered."""

    def send(self, method: str, *, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result. Raises RuntimeError if the browser refuses it."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        reply = self.wait_for(lambda reply: reply.get("id") == self._last_id)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def wait_for(self, is_wanted: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the first unread message that is wanted. Raises EOFError if the browser ends."""
        for number, message in enumerate(self._unread):
            if is_wanted(message):
                return self._unread.pop(number)
        while not is_wanted(message := self._receive()):
            self._unread.append(message)
        return message

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._replies], [], [], ANSWER_SECONDS)[0]:
                raise TimeoutError(f"the browser said nothing for {ANSWER_SECONDS} s after command {self._last_id}")
            chunk = os.read(self._replies, 1 << 16)
            if not chunk:
                raise EOFError("the browser ended")
            self._buffer += chunk
        first, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        return message

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        try:
            self.process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._commands)
        os.close(self._replies)


def download(url: str, folder: str) -> None:
    """Download a file; return when the browser says that it is complete. Raises RuntimeError if it was canceled."""
    for start in range(1, STARTS_MAX + 1):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            browser = DevTools(profile)
            try:
                _download(browser, url, folder)
            except TimeoutError as error:
                if start == STARTS_MAX:
                    raise
                sys.stderr.write(f"{error}: it is started again\n")
            else:
                return
            finally:
                browser.close()


def _download(browser: DevTools, url: str, folder: str) -> None:
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder, eventsEnabled=True)
    target = browser.send("Target.createTarget", url="about:blank")["targetId"]
    session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    browser.send("Page.navigate", session=session, url=url)
    states = ("completed", "canceled")
    ended = browser.wait_for(lambda message: message.get("params", {}).get("state") in states)
    if ended["params"]["state"] != "completed":
        raise RuntimeError("the download was canceled")


if __name__ == "__main__":
    download(*sys.argv[1:])
