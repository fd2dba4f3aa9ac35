"""Unpack zip archives that nobody vouches for: no member gets out of its folder, and no archive fills the disk."""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import IO

from inboxd import InboxFile, RejectFile

MEMBERS_MAX = 1000
UNPACKED_BYTES_MAX = 1_000_000_000
RATIO_MAX = 200
"""How many times larger than the archive its contents may be."""
CHUNK_BYTES = 1024 * 1024
NAME_BYTES_MAX, PATH_BYTES_MAX = 240, 1000
ENCRYPTED = 0x1
LITTER = "__MACOSX"
"""The folder in which macOS keeps icons and the like, in almost every archive that it makes."""

DAMAGED = (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises for an archive that is damaged, or of a kind that it does not know."""


def unpack(file: InboxFile) -> dict[str, int]:
    """Make each member of a zip archive an output. Raises RejectFile; then there are no outputs at all."""
    try:
        with zipfile.ZipFile(file.stream) as archive:
            members = list(_choose_names(archive.infolist()))
            unpacked = 0
            for member, name in members:
                unpacked += _unpack_member(archive, member, file, name, unpacked)
    except DAMAGED as error:
        raise RejectFile(f"This is no zip archive that can be unpacked: {error}") from error
    return {"members": len(members), "bytes": unpacked}


def _choose_names(members: list[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """Yield the members that are files, with a free path for each. Raises RejectFile."""
    if len(members) > MEMBERS_MAX:
        raise RejectFile(f"The archive has {len(members)} members; at most {MEMBERS_MAX} are allowed.")
    files = [(member, _safe_path(member)) for member in members if not _is_folder(member)]
    files = [(member, path) for member, path in files if LITTER not in path.parts]
    folders = {folder for _, path in files for folder in path.parents}
    used = set[PurePosixPath]()
    for member, path in files:
        if path in folders:
            raise RejectFile(f"{_shown(member)} is a file and a folder.")
        free, number = path, 1
        while free in used or free in folders:
            number += 1
            free = path.with_name(f"{path.stem} ({number}){path.suffix}")
        used.add(free)
        yield member, str(free)


def _is_folder(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a folder. Raises RejectFile for what is neither a folder nor a plain file."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise RejectFile(f"{_shown(member)} is a link or a special file.")
    if member.flag_bits & ENCRYPTED:
        raise RejectFile("The archive is encrypted. Drop it without a password.")
    return member.is_dir() or kind == stat.S_IFDIR


def _safe_path(member: zipfile.ZipInfo) -> PurePosixPath:
    """Return a member's path, which stays within its folder. Raises RejectFile."""
    name = member.filename.replace("\\", "/")  # some programs for Windows write it
    path = PurePosixPath(name)
    if path.is_absolute() or name[1:2] == ":":
        raise RejectFile(f"{_shown(member)} is an absolute path.")
    if ".." in path.parts or not path.parts:
        raise RejectFile(f"{_shown(member)} leads out of the archive.")
    if any(len(part.encode()) > NAME_BYTES_MAX for part in path.parts) or len(name.encode()) > PATH_BYTES_MAX:
        raise RejectFile(f"The name {_shown(member)} is too long.")
    return path


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: InboxFile, name: str, unpacked: int) -> int:
    """Write a member into an output; return its size. Counts what is unpacked: the sizes in an archive may be lies."""
    size = 0
    with archive.open(member) as source, file.output(name) as output:
        while chunk := _read(source):
            size += len(chunk)
            _check_total(unpacked + size, file.size)
            output.write(chunk)
    return size


def _read(source: IO[bytes]) -> bytes:
    """Return the next chunk. Raises BadZipFile for damaged bzip2 data, which is an OSError without a number."""
    try:
        return source.read(CHUNK_BYTES)
    except OSError as error:
        if error.errno is None:
            raise zipfile.BadZipFile(str(error)) from error
        raise


def _check_total(unpacked: int, packed: int) -> None:
    if unpacked > UNPACKED_BYTES_MAX:
        raise RejectFile(f"The archive contains more than {UNPACKED_BYTES_MAX} bytes.")
    if unpacked > packed * RATIO_MAX:
        raise RejectFile(f"The contents are more than {RATIO_MAX} times larger than the archive.")


def _shown(member: zipfile.ZipInfo) -> str:
    return ascii(member.filename[:100])
