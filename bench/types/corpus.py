"""Collects a corpus of real files: Debian packages, Python source distributions, and this machine's /usr."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench.types.packages import DEBIAN, PYPI

_DOWNLOAD_SECONDS = 200
_FILES_MAX = 150_000
_CANDIDATES_PER_SUFFIX = 150
"""Files of one suffix that `file` is asked about: else the corpus would be Python, C and HTML."""


def download(folder: Path) -> None:
    """Download and unpack each package that is not there yet; report those that can't be had, and go on."""
    for name in DEBIAN:
        _unpack(folder, name, ("apt-get", "download", "-q", name), f"{name}_*.deb")
    for name in PYPI:
        command = (sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", name)
        _unpack(folder, name, command, f"{name.replace('-', '?').replace('.', '?')}-[0-9]*")


def _unpack(folder: Path, name: str, command: tuple[str, ...], pattern: str) -> None:
    """Run a download in ``archives``, and unpack the archive that matches the pattern into ``files/NAME``."""
    archives, target = folder / "archives", folder / "files" / name
    archives.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        if not any(archives.glob(pattern)):
            subprocess.run(command, cwd=archives, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)  # noqa: S603
        (archive,) = archives.glob(pattern)
        _extract(archive, target)
    except (OSError, ValueError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile) as error:
        print(f"  {name}: not in the corpus: {error}", flush=True)


def _extract(archive: Path, target: Path) -> None:
    if archive.suffix == ".deb":
        subprocess.run(("dpkg", "-x", str(archive), str(target)), check=True, capture_output=True)  # noqa: S603, S607
    elif archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(target)  # noqa: S202 - zipfile removes .. itself
    else:
        with tarfile.open(archive) as opened:
            opened.extractall(target, filter="data")


def candidates(folder: Path) -> list[Path]:
    """Return regular files of the corpus and of /usr, at most some of each suffix, in an order that depends on paths only."""
    by_suffix: defaultdict[str, list[Path]] = defaultdict(list)
    for root in (folder / "files", folder / "archives", Path("/usr")):
        for count, path in enumerate(_regular_files(root)):
            if count > _FILES_MAX:
                break
            by_suffix[path.suffix.lower()].append(path)
    chosen = []
    for paths in by_suffix.values():
        chosen += sorted(paths, key=lambda path: order_of(path, folder))[:_CANDIDATES_PER_SUFFIX]
    return chosen


def order_of(path: Path, folder: Path) -> bytes:
    """Return a key that orders files as if by chance, and the same wherever the corpus is."""
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    return hashlib.sha256(str(relative).encode("utf-8", "replace")).digest()


def _regular_files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def ask_file(paths: list[Path]) -> list[str]:
    """Return what `file --mime-type` says of each path."""
    listed = "\n".join(map(str, paths))
    command = ("file", "--mime-type", "--brief", "--no-pad", "--files-from", "-")
    answer = subprocess.run(  # noqa: S603 - the names of files are its input
        command, input=listed, capture_output=True, check=True, text=True, errors="surrogateescape"
    )
    kinds = answer.stdout.splitlines()
    if len(kinds) != len(paths):
        raise ValueError(f"file answered {len(kinds)} lines for {len(paths)} files")
    return kinds
