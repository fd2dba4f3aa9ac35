"""A terminal in a box, as a person has it: tmux runs a shell, which is typed into and looked at."""

import re
import time
from collections.abc import Callable

import pytest
from support.boxes.box import Box

TYPED_SECONDS = 90.0
"""Maximum time for a typed command, in seconds."""
POLL_SECONDS = 0.1
PROMPT = re.compile(r"(?:^|\n)(?:\(.venv\) )?\[(\d+)\]\$\Z")
"""The shell's prompt at the end of a screen: the exit code of the command before it."""


class Terminal:
    """One shell of a user in a folder of a box, on a terminal of a given width."""

    def __init__(self, box: Box, user: str, folder: str, name: str, width: int = 120) -> None:
        self._box = box
        self._user = user
        self._name = name
        shell = f"env HOME={folder} PS1='[$?]$ ' bash --norc --noprofile"
        self._tmux("new-session", "-d", "-s", name, "-x", str(width), "-y", "50", "-c", folder, shell)
        self._tmux("set-option", "-t", name, "history-limit", "5000")
        self.wait_until(lambda: PROMPT.search(self.screen()), goal="a prompt")

    def type(self, command: str) -> tuple[int, str]:
        """Type a command, wait for its end, and return its exit code and what it printed."""
        self.begin(command)
        self.wait_until(lambda: PROMPT.search(self.screen()), goal=f"the end of: {command}")
        match = PROMPT.search(screen := self.screen())
        assert match is not None
        return int(match[1]), screen[: match.start()].partition("\n")[2]

    def begin(self, command: str) -> None:
        """Type a command on an empty screen, and don't wait for its end."""
        self._tmux("send-keys", "-t", self._name, "clear", "Enter")
        self.wait_until(lambda: PROMPT.fullmatch(self.screen().lstrip()), goal="an empty screen")
        self._tmux("clear-history", "-t", self._name)
        self._tmux("send-keys", "-t", self._name, "-l", command)
        self._tmux("send-keys", "-t", self._name, "Enter")
        self.wait_until(lambda: not PROMPT.search(self.screen()) or "\n" in self.screen(), goal=f"the start of: {command}")

    def press(self, key: str) -> None:
        """Press a key, such as C-c."""
        self._tmux("send-keys", "-t", self._name, key)

    def screen(self) -> str:
        """Return what the terminal shows, after the lines that have left it at the top, without spaces at the end."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-5000", "-t", self._name).rstrip()

    def wait_until(self, condition: Callable[[], object], seconds: float = TYPED_SECONDS, *, goal: str) -> None:
        """Wait until a condition holds; after ``seconds``, fail the test with the screen."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds} s: {goal}\n{self.screen()}")
            time.sleep(POLL_SECONDS)

    def _tmux(self, *arguments: str) -> str:
        return self._box.run("tmux", "-L", "film", *arguments, user=self._user).stdout
