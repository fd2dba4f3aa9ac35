"""The names that programs give to files which are not complete, or not meant for the inbox: one table, as data."""

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


class Meaning(Enum):
    """What a name says, as the end of the sentence "the file is ignored: …"."""

    IN_PROGRESS = "a temporary name: the file is claimed once it has its final name"
    CONTROL = "a program's control file: the file that it belongs to waits until it is removed"
    LITTER = "a file that programs store for themselves"


@dataclass(frozen=True, slots=True)
class TemporaryName:
    """A glob pattern for names, without regard to case; the programs that use it; what it means.

    If ``marks_incomplete``, the name is another file's with a suffix (the pattern without its asterisk), and that file is
    incomplete while this one exists. If ``is_also_final``, the suffix has other uses, too (``poetry.lock``): without that other
    file the name is a final one.
    """

    pattern: str
    programs: str
    meaning: Meaning
    marks_incomplete: bool = False
    is_also_final: bool = False


_IN_PROGRESS, _CONTROL, _LITTER = Meaning.IN_PROGRESS, Meaning.CONTROL, Meaning.LITTER

TEMPORARY_NAMES = (
    TemporaryName(".*", "rsync, sftp servers, sync clients, editors, inboxd: hidden names", _IN_PROGRESS),
    TemporaryName("*.tmp", "many programs; BITS, Syncthing, LibreOffice", _IN_PROGRESS),
    TemporaryName("*.temp", "many programs", _IN_PROGRESS),
    TemporaryName("*.part", "Firefox, KIO, JDownloader, Nextcloud, yt-dlp", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.partial", "rclone, Edge, Internet Explorer", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.filepart", "WinSCP", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.crdownload", "Chrome, Edge, Vivaldi, Brave", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.opdownload", "Opera", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.download", "Safari", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.upload", "upload servers", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.dtapart", "DownThemAll", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.!ut", "uTorrent", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.!qb", "qBittorrent", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.!sync", "Resilio Sync", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.bc!", "BitComet", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.jc!", "FlashGet", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.xltd", "Thunder", _IN_PROGRESS, marks_incomplete=True),
    TemporaryName("*.ffs_tmp", "FreeFileSync", _IN_PROGRESS),
    TemporaryName("*.aria2", "aria2", _CONTROL, marks_incomplete=True),
    TemporaryName("*.st", "axel", _CONTROL, marks_incomplete=True, is_also_final=True),
    TemporaryName("*.lftp-pget-status", "lftp", _CONTROL, marks_incomplete=True),
    TemporaryName("*.lock", "programs that lock what they write", _CONTROL, marks_incomplete=True, is_also_final=True),
    TemporaryName("~*", "office programs: lock files; Syncthing on Windows", _LITTER),
    TemporaryName("*~", "editors: backups", _LITTER),
    TemporaryName("[#]*[#]", "Emacs: autosave", _LITTER),
    TemporaryName("*.sw[px]", "vim", _LITTER),
    TemporaryName("4913", "vim: a test whether the folder is writable", _LITTER),
    TemporaryName("Thumbs.db", "Windows", _LITTER),
    TemporaryName("desktop.ini", "Windows", _LITTER),
    TemporaryName("Icon\r", "macOS", _LITTER),
    TemporaryName("@eaDir", "Synology", _LITTER),
)

FOLDERS = (
    TemporaryName(".*", "macOS, Linux desktops, version control: hidden folders, .Trash-1000", _LITTER),
    TemporaryName("*.download", "Safari: a download in progress", _IN_PROGRESS),
    TemporaryName("@eaDir", "Synology", _LITTER),
    TemporaryName("[#]recycle", "Synology", _LITTER),
    TemporaryName("@Recycle", "QNAP", _LITTER),
    TemporaryName("@Recently-Snapshot", "QNAP", _LITTER),
    TemporaryName("$RECYCLE.BIN", "Windows", _LITTER),
    TemporaryName("System Volume Information", "Windows", _LITTER),
    TemporaryName("lost+found", "ext file systems", _LITTER),
    TemporaryName("__MACOSX", "archives from macOS", _LITTER),
)

SHORTCUTS = {b".lnk": "Windows", b".url": "Windows", b".desktop": "Linux desktops", b".webloc": "macOS"}
"""Suffixes of files that only refer to another file, or to a page."""

EMPTY_WHILE_PREFIX = b".davfs.tmp"
"""While a name with this prefix exists, empty files in its folder are placeholders: Windows and Finder over WebDAV (davfs2)."""


@dataclass(frozen=True, slots=True)
class NameTable:
    """The table with an inbox's changes, compiled."""

    names: tuple[tuple[re.Pattern[bytes], Meaning], ...]
    any_name: re.Pattern[bytes]
    markers: tuple[bytes, ...]
    """The suffixes, in lower case, of names that mark another file as incomplete."""
    ambiguous: tuple[bytes, ...]
    """Those of them that final names may have, too."""

    def meaning(self, name: bytes) -> Meaning | None:
        """Return what a name means; None if it is a final name."""
        if not self.any_name.fullmatch(name):
            return None
        return next(meaning for pattern, meaning in self.names if pattern.fullmatch(name))

    def incomplete_name(self, name: bytes) -> bytes | None:
        """Return the name of the file that this name marks as incomplete; None if it is no marker."""
        lower = name.lower()
        if not lower.endswith(self.markers):
            return None
        return next(name[: -len(suffix)] for suffix in self.markers if lower.endswith(suffix))


@lru_cache(maxsize=64)
def name_table(changes: tuple[str, ...]) -> NameTable:
    """Return the table with ``changes``: a pattern is added, or, after an exclamation mark, removed."""
    removed = {change[1:].lower() for change in changes if change.startswith("!")}
    rows = [row for row in TEMPORARY_NAMES if row.pattern.lower() not in removed]
    rows += [TemporaryName(change, "the settings", _IN_PROGRESS) for change in changes if not change.startswith("!")]
    names = tuple((_compile(row.pattern), row.meaning) for row in rows)
    any_name = re.compile(b"|".join(b"(?:%s)" % pattern.pattern for pattern, _ in names) or b"(?!)", _FLAGS)
    markers = tuple(row.pattern.removeprefix("*").lower().encode() for row in rows if row.marks_incomplete)
    ambiguous = tuple(row.pattern.removeprefix("*").lower().encode() for row in rows if row.is_also_final)
    return NameTable(names, any_name, markers, ambiguous)


_FLAGS = re.IGNORECASE | re.DOTALL


def _compile(pattern: str) -> re.Pattern[bytes]:
    return re.compile(fnmatch.translate(pattern).encode().replace(b"\\Z", b"").replace(b"(?s:", b"(?:"), _FLAGS)


_FOLDER_NAMES = tuple((_compile(row.pattern), row.meaning) for row in FOLDERS)


def final_path(parts: tuple[bytes, ...], changes: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the path under which a complete file is not taken for a temporary one: with underscores where it would be."""
    *folders, name = parts
    return (*(_final_name(folder, folder_meaning) for folder in folders), _final_name(name, name_table(changes).meaning))


def _final_name(name: bytes, meaning: Callable[[bytes], Meaning | None]) -> bytes:
    candidates = (name, b"_" + name, name + b"_", b"_" + name + b"_")
    return next((candidate for candidate in candidates if not meaning(candidate)), name)


def folder_meaning(name: bytes) -> Meaning | None:
    """Return what a sub-folder's name means; None if the folder is scanned."""
    return next((meaning for pattern, meaning in _FOLDER_NAMES if pattern.fullmatch(name)), None)
