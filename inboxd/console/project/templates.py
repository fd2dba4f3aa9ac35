"""The files of a new project."""

SETTINGS_NAME, HANDLER_NAME, TEST_NAME, ROOT_NAME = "settings.toml", "example_handler.py", "test_example_handler.py", "drop"

SETTINGS = """\
# The settings of inboxd: `inboxd check` reports what is wrong here. Every other key has a default.
# Relative paths are relative to this file's folder.

[inbox.drop]                            # one table for each inbox, with a name of your choice
root = "drop"                           # drop files into drop/inbox; they end in drop/done or drop/failed
handler = "example_handler:handle"      # module:function, in this folder; called with each file

# include = ["*.csv", "*.txt"]          # accept these files only, and leave others where they are
# retries = 3                           # how often to try again if the handler raises
# time_limit_seconds = "5m"             # a handler that takes longer is interrupted
"""

HANDLER = '''\
"""An example handler: inboxd calls it with each file that is dropped into drop/inbox."""

from inboxd import InboxFile, RejectFile


def handle(file: InboxFile) -> dict[str, int]:
    """Count the lines of a text file. Put here what is to be done with your files."""
    try:
        text = file.read().decode("utf-8")
    except UnicodeDecodeError:
        # to failed/ at once, with this reason for the person who dropped the file; any other exception: tried again
        raise RejectFile("This is not a text file in UTF-8. Save it as one, and drop it again.") from None
    lines = len(text.splitlines())
    print(f"{file.relative_path} has {lines} lines")  # what a handler prints is logged
    return {"lines": lines}
'''

TEST = '''\
"""Tests of the example handler: python -m pytest"""

import pytest
from example_handler import handle

from inboxd import InboxFile, RejectFile


def test_the_lines_of_a_text_are_counted(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("one\\ntwo\\n")

    assert handle(InboxFile.of(path)) == {"lines": 2}


def test_what_is_no_text_is_rejected(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\\xff\\xd8\\xff")

    with pytest.raises(RejectFile, match="not a text file"):
        handle(InboxFile.of(path))
'''

FILES = {SETTINGS_NAME: SETTINGS, HANDLER_NAME: HANDLER, TEST_NAME: TEST}
