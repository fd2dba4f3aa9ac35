"""Send one message in a program of its own, which can be ended: a server that hangs holds nobody up."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec

from inboxd.logs.text import escape, shorten
from inboxd.notify.addresses import without_secrets
from inboxd.notify.deliver import DELIVERY_SECONDS
from inboxd.notify.messages import Message

ERROR_CHARS_MAX = 300
NOT_INSTALLED = "Apprise is not installed: pip install 'inboxd[notify]'"
"""The error of a message while the extra is missing."""

_ARGV = (sys.executable, "-P", "-m", "inboxd.notify.deliver")
_GRACE_SECONDS = 5.0


def is_installed() -> bool:
    """Return whether the extra is installed."""
    return find_spec("apprise") is not None


class Sender:
    """Sends messages one after the other; another thread may stop it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def send(self, url: str, message: Message) -> str:
        """Send a message, and return "", or why it was not sent: one line without secrets."""
        return self._run([url], message.title, message.body, message.kind)[0]

    def find_problems(self, urls: Sequence[str]) -> list[str]:
        """Return for each URL why Apprise can't use it, one line without secrets; "" if it can. Nothing is sent."""
        return self._run(urls, "", "", "")

    def stop(self) -> None:
        """End the message that is being sent, and send no further one."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _run(self, urls: Sequence[str], title: str, body: str, kind: str) -> list[str]:
        if not is_installed():
            return [NOT_INSTALLED] * len(urls)
        task = json.dumps({"urls": list(urls), "title": title, "body": body, "kind": kind})
        try:
            process = self._start()
        except OSError as error:
            return [f"no process could be started: {error.strerror}"] * len(urls)
        if process is None:
            return ["beat stops"] * len(urls)
        with process:
            try:
                output, errors = process.communicate(task, DELIVERY_SECONDS + _GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                output, errors = process.communicate()
        found = _parse(process.returncode, output, errors, len(urls))
        return [_clean(error, url) for error, url in zip(found, urls, strict=True)]

    def _start(self) -> subprocess.Popen[str] | None:
        pipe = subprocess.PIPE
        with self._lock:
            if self._is_stopped:
                return None
            self._process = subprocess.Popen(  # noqa: S603 - no shell, and no arguments from outside
                _ARGV, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, text=True, encoding="utf-8",
                errors="replace",
            )  # fmt: skip
            return self._process


def _parse(code: int, output: str, errors: str, count: int) -> list[str]:
    """Return the error for each URL that the program has printed; "" for none."""
    if code in (-9, -14):  # SIGKILL, SIGALRM
        return [f"the server did not finish within {DELIVERY_SECONDS} s"] * count
    try:
        found = [str(error) for error in json.loads(output.splitlines()[-1])]
    except (ValueError, LookupError, TypeError):
        found = []
    if len(found) == count:
        return found
    return (errors.strip().splitlines() or [f"the program that sends ended with code {code}"])[-1:] * count


def _clean(error: str, url: str) -> str:
    return shorten(escape(without_secrets(error, url)), ERROR_CHARS_MAX)
