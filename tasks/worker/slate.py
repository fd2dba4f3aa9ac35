"""A piece of memory that a process shares with those it forks: one writes, all read, nobody waits."""

import mmap

ROOM_BYTES = 4 * 1024 * 1024
"""As much fits on it; memory is only used by what was written."""
_HEAD_BYTES = 24
_NUMBER = 0


class Slate:
    """Holds the last text and its number, which rises with each; made before the fork. Number 0: nothing was written yet."""

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room = room_bytes
        self._memory = mmap.mmap(-1, _HEAD_BYTES + 2 * room_bytes)
        # an aligned word is written, and read, all at once: the number, then the length of each of the two texts
        self._words = memoryview(self._memory)[:_HEAD_BYTES].cast("Q")

    @property
    def number(self) -> int:
        """The number of the last text: cheap enough to be asked for before each task."""
        return self._words[_NUMBER]

    def write(self, text: bytes) -> None:
        """Replace the text; for one thread of one process. Raises ValueError if there is no room for it."""
        if len(text) > self._room:
            raise ValueError(f"{len(text)} bytes, and there is room for {self._room}")
        number = self.number + 1
        start = self._start(number)
        self._memory[start : start + len(text)] = text
        self._words[1 + number % 2] = len(text)
        self._words[_NUMBER] = number

    def read(self) -> tuple[int, bytes]:
        """Return the last text and its number."""
        while True:
            number = self.number
            start = self._start(number)
            text = self._memory[start : start + self._words[1 + number % 2]]
            if self.number == number:  # else the other half may have been written over meanwhile
                return number, text

    def _start(self, number: int) -> int:
        return _HEAD_BYTES + number % 2 * self._room
