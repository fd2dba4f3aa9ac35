"""Settings in memory that a worker shares with its children: each child adopts a reload at its next task."""

import dataclasses
import mmap
from collections.abc import Iterable

from inboxd.config.settings import Settings
from inboxd.errors import Finding, SettingsError
from inboxd.service.reloading import deserialize, serialize
from inboxd.tasks.process_state.context import WorkerContext

CAPACITY_BYTES = 4 * 1024 * 1024
"""Maximum size of the serialized settings: some ten thousand inboxes. Memory is only used by what was written."""

_HEADER_BYTES = 24
_VERSION = 0


class SharedBuffer:
    """The latest text of one writing process, for all processes that it forks; neither side waits for the other.

    Created before the fork. ``version`` rises with each text; 0: no text was written yet. No lock: a child that is forked while
    the lock is locked would wait for ever.
    """

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity = capacity_bytes
        self._memory = mmap.mmap(-1, _HEADER_BYTES + 2 * capacity_bytes)
        # an aligned word is read and written atomically: the version, then the length of each of the two texts
        self._words = memoryview(self._memory)[:_HEADER_BYTES].cast("Q")

    @property
    def version(self) -> int:
        """The version of the latest text: cheap enough to be read before each task."""
        return self._words[_VERSION]

    def write(self, text: bytes) -> None:
        """Replace the text; for one thread of one process. Raises ValueError if it is larger than the capacity."""
        if len(text) > self._capacity:
            raise ValueError(f"the size of {len(text)} bytes exceeds the limit of {self._capacity} bytes")
        version = self.version + 1
        start = self._start(version)
        self._memory[start : start + len(text)] = text
        self._words[1 + version % 2] = len(text)
        self._words[_VERSION] = version

    def read(self) -> tuple[int, bytes]:
        """Return the latest text's version, and the text."""
        while True:
            version = self.version
            start = self._start(version)
            text = self._memory[start : start + self._words[1 + version % 2]]
            if self.version == version:  # else the text may have been overwritten meanwhile
                return version, text

    def _start(self, version: int) -> int:
        return _HEADER_BYTES + version % 2 * self._capacity


class CurrentContext:
    """The worker context by the latest settings. Created before the fork."""

    def __init__(self, context: WorkerContext, shared: SharedBuffer | None = None) -> None:
        self._shared = shared or SharedBuffer()
        self._latest = 0, context

    def get(self) -> WorkerContext:
        """Return the context by the latest settings; a task keeps the one that it began with."""
        version, context = self._latest
        if self._shared.version == version:
            return context
        version, text = self._shared.read()
        names, _, serialized = text.partition(b"\n")
        retiring = frozenset(names.decode().split())
        context = dataclasses.replace(context, settings=deserialize(serialized), retiring=retiring)
        self._latest = version, context
        return context

    def update(self, settings: Settings, retiring: Iterable[str]) -> None:
        """Publish new settings to all processes; ``retiring`` names inboxes among them. Main process only.

        Raises SettingsError if the settings are too large.
        """
        try:
            self._shared.write(" ".join(sorted(retiring)).encode() + b"\n" + serialize(settings))
        except ValueError as error:
            raise SettingsError([Finding("settings", str(error), "restart the worker to apply them")]) from None
