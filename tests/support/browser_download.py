"""Have a real browser (Chromium) download one address into a folder: ``browser_download.py URL FOLDER``."""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

BROWSER = (
    "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--remote-debugging-pipe",
)  # fmt: skip


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
        """Return the next message that is wanted. Raises EOFError if the browser ends."""
        while True:
            while b"\0" not in self._buffer:
                chunk = os.read(self._replies, 1 << 16)
                if not chunk:
                    raise EOFError("the browser ended")
                self._buffer += chunk
            first, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(first)
            if is_wanted(message):
                return message


def download(url: str, folder: str) -> None:
    """Download a file; return when the browser says that it is complete. Raises RuntimeError if it was canceled."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = DevTools(profile)
        try:
            browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=folder, eventsEnabled=True)
            target = browser.send("Target.createTarget", url="about:blank")["targetId"]
            session = browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            browser.send("Page.navigate", session=session, url=url)
            states = ("completed", "canceled")
            ended = browser.wait_for(lambda message: message.get("params", {}).get("state") in states)
            if ended["params"]["state"] != "completed":
                raise RuntimeError("the download was canceled")
        finally:
            browser.process.terminate()
            browser.process.wait()


if __name__ == "__main__":
    download(*sys.argv[1:])
