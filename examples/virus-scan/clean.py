"""The step after the virus scan: only clean files get here."""

import shutil

from inboxd import InboxFile


def release(file: InboxFile) -> None:
    """Copy a clean file to out/, from where others may take it."""
    with file.output(file.filename) as output:
        shutil.copyfileobj(file.stream, output)
