"""Reads the texts of notes: those that come along, or those in a folder that the settings name.

A folder's file is read again when it has changed, so that every process has its latest version without a reload. What is
missing or wrong in it is replaced by the English text: a failed file always gets its note.
"""

from functools import lru_cache
from pathlib import PurePath

from inboxd.config.values import NOTE_LANGUAGES
from inboxd.fs.syscalls import Disk, FileKind, closing
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.failure import FailureKind
from inboxd.spool.note_text import NoteText, TextProblem, build_texts, read_sections

FILE_NAME = "notes.txt"
FILE_BYTES_MAX = 256 * 1024

_OWN = PurePath(__file__).parent / "texts"
_Version = tuple[int, int, int, int]
Texts = dict[FailureKind, NoteText]

_read: dict[str, tuple[_Version, Texts]] = {}
"""By folder: the version of its file, and the texts in it."""
_logged: dict[str, str] = {}
"""By folder: the problem that was logged last."""

_log = get_logger(__name__)


@lru_cache(maxsize=len(NOTE_LANGUAGES))
def own_texts(language: str) -> Texts:
    """Return the texts that come along in a language."""
    texts, problems = build_texts(read_sections(Disk().read_text(_OWN / language / FILE_NAME)))
    assert not problems, problems
    return texts


def load_texts(disk: Disk, notes: str) -> Texts:
    """Return the texts of an inbox, ``notes`` being a language or a folder; an unusable text is logged, and English."""
    if notes in NOTE_LANGUAGES:
        return own_texts(notes)
    try:
        texts, problems = _load_folder(disk, notes)
    except (OSError, ValueError) as error:
        texts, problems = {}, [TextProblem("", _describe(error))]
    _log_problems(notes, problems)
    return {**own_texts("en"), **texts}


def find_text_problems(disk: Disk, notes: str) -> list[TextProblem]:
    """Return what is wrong with the texts that an inbox's settings name; a problem of the whole file has the section ""."""
    if notes in NOTE_LANGUAGES:
        return []
    try:
        return build_texts(read_sections(_read_file(disk, notes)[1] or ""))[1]
    except (OSError, ValueError) as error:
        return [TextProblem("", _describe(error))]


def text_file(notes: str) -> PurePath:
    """Return the path of a folder's file of texts."""
    return PurePath(notes) / FILE_NAME


def _load_folder(disk: Disk, folder: str) -> tuple[Texts, list[TextProblem]]:
    version, raw = _read_file(disk, folder, unless=_read[folder][0] if folder in _read else None)
    if raw is None:
        return _read[folder][1], []
    texts, problems = build_texts(read_sections(raw))
    _read[folder] = version, texts
    return texts, problems


def _read_file(disk: Disk, folder: str, unless: _Version | None = None) -> tuple[_Version, str | None]:
    """Return the file's version and text; None for the text if it has the version ``unless``. Raises OSError, ValueError."""
    path = disk.real_path(text_file(folder))  # the administrator chose the path, which may be a link
    with (
        closing(disk, disk.open_root(path.parent)) as at,
        closing(disk, disk.open_file(at, bytes(PurePath(path.name)))) as file,
    ):
        stat = disk.fstat(file)
        if stat.kind is not FileKind.FILE or stat.size > FILE_BYTES_MAX:
            raise ValueError(f"is not a file of at most {FILE_BYTES_MAX} bytes")
        version = stat.dev, stat.ino, stat.mtime_ns, stat.ctime_ns
        if version == unless:
            return version, None
        chunks = []
        while chunk := disk.read(file, FILE_BYTES_MAX):
            chunks.append(chunk)
    return version, b"".join(chunks).decode("utf-8")


def _describe(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"can't be read: {error.strerror}"
    return "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _log_problems(folder: str, problems: list[TextProblem]) -> None:
    if not problems:
        return
    text = "; ".join(f"{f'[{problem.section}] ' if problem.section else ''}{problem.problem}" for problem in problems)
    if _logged.get(folder) != text:
        _logged[folder] = text
        remedy = "run `inboxd check`; until then the English text is used in its place"
        _log.warning(events.NOTE_TEXT_UNUSABLE, texts=str(text_file(folder)), error=text, remedy=remedy)
