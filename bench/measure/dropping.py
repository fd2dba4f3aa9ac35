"""The dropper: a separate process that renames prepared files into an inbox, at full speed or at a constant rate.

Prints one JSON line with the times of the first and last rename, by CLOCK_MONOTONIC, which all processes share.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

FILE_BYTES = 4096
PACE_SLEEP_SECONDS = 0.004
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Dropped:
    """The times of the first and last rename (``time.monotonic()``), and the number of files."""

    first: float
    last: float
    files: int


def prepare(folder: Path, prefix: str, count: int, size: int = FILE_BYTES) -> None:
    """Write ``count`` different files of ``size`` bytes into a new folder."""
    folder.mkdir(parents=True)
    body = os.urandom(size)
    for number in range(count):
        mark = b"%016d" % number
        (folder / f"{prefix}{number:07}.bin").write_bytes(mark + body[len(mark) :])


def drop(source: Path, inbox: Path, rate: float) -> Dropped:
    """Rename all files of a folder into another, ``rate`` per second; 0 means at full speed."""
    names = sorted(os.listdir(source))  # noqa: PTH208 - only names are needed
    pairs = [(f"{source}/{name}", f"{inbox}/{name}") for name in names]
    rename = os.rename
    first = time.monotonic()
    for number, (old, new) in enumerate(pairs):
        while rate and number > (time.monotonic() - first) * rate:
            time.sleep(PACE_SLEEP_SECONDS)
        rename(old, new)
    return Dropped(first, time.monotonic(), len(pairs))


class Dropper:
    """A running dropper process."""

    def __init__(self, source: Path, inbox: Path, rate: float = 0.0) -> None:
        argv = [sys.executable, "-m", "bench.measure.dropping", str(source), str(inbox), "--rate", str(rate)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment)  # noqa: S603 - our own

    @property
    def is_running(self) -> bool:
        """Whether the process has not exited."""
        return self._process.poll() is None

    def result(self) -> Dropped:
        """Wait for the process to exit, and return its result."""
        out, _ = self._process.communicate()
        assert self._process.returncode == 0, f"the dropper exited with {self._process.returncode}"
        return Dropped(**json.loads(out))


def main() -> None:
    """Drop the files of a folder and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("inbox", type=Path)
    parser.add_argument("--rate", type=float, default=0.0)
    arguments = parser.parse_args()
    print(json.dumps(vars(drop(arguments.source, arguments.inbox, arguments.rate))))


if __name__ == "__main__":
    main()
