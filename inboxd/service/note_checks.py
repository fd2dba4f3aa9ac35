"""Check the texts of notes that the settings name. A wrong text prevents no start: the English one is used in its place."""

from collections.abc import Iterator

from inboxd.config.settings import Settings
from inboxd.config.values import NOTE_LANGUAGES
from inboxd.errors import Finding
from inboxd.fs.syscalls import Disk
from inboxd.spool.note_files import find_text_problems, text_file


def check_notes(disk: Disk, settings: Settings) -> Iterator[Finding]:
    """Yield a note for each section of a file of texts that can't be used."""
    for notes in sorted({inbox.notes for inbox in settings.inbox.values()} - set(NOTE_LANGUAGES)):
        for problem in find_text_problems(disk, notes):
            section = f", section [{problem.section}]" if problem.section else ""
            remedy = "correct it (docs/notes.md); until then notes have the English text"
            yield Finding(f"notes, {text_file(notes)}{section}", problem.problem, remedy, blocks=False)
