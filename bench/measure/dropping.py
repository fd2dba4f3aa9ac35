"""The dropper: a process of its own that renames prepared files into an inbox, as fast as it can or at an even pace.

Prints one JSON line: when it renamed the first and the last, on the clock that all processes of this machine share.
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
    """When the first and the last file were renamed (``time.monotonic()``), and how many."""

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
    """Rename all files of a folder into another: ``rate`` a second, or as fast as it can with 0."""
    names = sorted(os.listdir(source))  # noqa: PTH208 - names are all that is wanted
    pairs = [(f"{source}/{name}", f"{inbox}/{name}") for name in names]
    rename = os.rename
    first = time.monotonic()
    for number, (here, there) in enumerate(pairs):
        while rate and number > (time.monotonic() - first) * rate:
            time.sleep(PACE_SLEEP_SECONDS)
        rename(here, there)
    return Dropped(first, time.monotonic(), len(pairs))


class Dropper:
    """A dropper at work."""

    def __init__(self, source: Path, inbox: Path, rate: float = 0.0) -> None:
        argv = [sys.executable, "-m", "bench.measure.dropping", str(source), str(inbox), "--rate", str(rate)]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment)  # noqa: S603 - our own

    @property
    def busy(self) -> bool:
        """Whether it has not dropped all yet."""
        return self._process.poll() is None

    def result(self) -> Dropped:
        """Wait until all is dropped, and return when that was."""
        out, _ = self._process.communicate()
        assert self._process.returncode == 0, "the dropper has failed"
        return Dropped(**json.loads(out))


def main() -> None:
    """Drop what lies in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("inbox", type=Path)
    parser.add_argument("--rate", type=float, default=0.0)
    arguments = parser.parse_args()
    print(json.dumps(vars(drop(arguments.source, arguments.inbox, arguments.rate))))


if __name__ == "__main__":
    main()
