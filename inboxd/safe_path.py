"""The import path of our programs: what is installed comes before whatever the current folder holds.

Imports nothing that is not loaded when Python starts: everything else could come from that folder.
"""

import os
import sys


def distrust_current_folder() -> None:
    """Remove the current folder from the front of the import path, where ``python -m`` and Celery's ``-A`` put it."""
    if sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 - pathlib is not loaded yet
        del sys.path[0]
