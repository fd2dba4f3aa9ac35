"""Memory for notes, a page for each of a worker's children: made before the fork, so that a page outlives who wrote on it.

One process writes on a page; all that share it may read it, at any time, and nobody waits. Writing takes no system call.
"""

import mmap

from billiard.process import current_process

PAGES = 256
"""A child beyond so many does without."""

ROOM_BYTES = 64 * 1024
"""As much fits on a page; memory is only used by what was written."""

_TITLE_BYTES = 32
_HEAD_BYTES = 16 + _TITLE_BYTES
_LENGTH, _SENT = 0, 1


class Page:
    """Notes about one thing, its title: bytes that only become more, until the page is begun anew."""

    def __init__(self, memory: memoryview) -> None:
        self._title = memory[16:_HEAD_BYTES]
        self._room = memory[_HEAD_BYTES:]
        # an aligned word is written, and read, all at once
        self._words = memory[:16].cast("Q")

    @property
    def title(self) -> str:
        """What the notes are about, "" on an empty page."""
        return bytes(self._title).rstrip(b"\0").decode("ascii", "replace")

    def begin(self, title: str) -> None:
        """Wipe the page, and begin another one; ``title`` is ASCII, of at most 32 characters."""
        self._words[_LENGTH] = self._words[_SENT] = 0
        self._title[:] = title.encode("ascii").ljust(_TITLE_BYTES, b"\0")

    def add(self, note: bytes) -> bool:
        """Add a note; False if there is no room for it."""
        start = self._words[_LENGTH]
        end = start + len(note)
        if end > len(self._room):
            return False
        self._room[start:end] = note
        self._words[_LENGTH] = end  # if we die before this, there is no note yet
        return True

    def read(self, title: str) -> bytes:
        """Return all notes about this, one after the other; b"" if the page is about something else."""
        notes = bytes(self._room[: self._words[_LENGTH]]) if self.title == title else b""
        return notes if self.title == title else b""  # else it was begun anew meanwhile

    def unsent(self) -> bytes:
        """Return the notes since the last that were ``sent``."""
        return bytes(self._room[self._words[_SENT] : self._words[_LENGTH]])

    def sent(self) -> None:
        """Take note that what was written until now is also known elsewhere. For who writes on the page."""
        self._words[_SENT] = self._words[_LENGTH]


class Pages:
    """The pages of a worker and its children."""

    def __init__(self, count: int = PAGES) -> None:
        self._memory = memoryview(mmap.mmap(-1, count * (_HEAD_BYTES + ROOM_BYTES)))
        self._pages = [Page(self._memory[at:][: _HEAD_BYTES + ROOM_BYTES]) for at in _starts(count)]

    def mine(self) -> Page | None:
        """Return this process's page: by its place in the pool, which a dead child's successor takes. None for others."""
        place = getattr(current_process(), "index", None)
        return self._pages[place] if isinstance(place, int) and 0 <= place < len(self._pages) else None

    def read(self, title: str) -> bytes:
        """Return what stands on any page about this."""
        return b"".join(page.read(title) for page in self._pages)


def _starts(count: int) -> range:
    size = _HEAD_BYTES + ROOM_BYTES
    return range(0, count * size, size)
