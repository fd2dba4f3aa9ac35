"""Take the current folder off the import path, so that a file in it can't replace an installed module.

Imports only modules that are loaded when Python starts: any other import could already come from that folder.
"""

import os
import sys


def distrust_current_folder() -> None:
    """Remove the current folder from the front of the import path, where ``python -m`` and Celery's ``-A`` put it.

    With ``python -P`` only Celery does, unless PYTHONPATH names the folder already: then its entry stays.
    """
    folder = os.getcwd()  # noqa: PTH109 - pathlib is not loaded yet
    is_named = sys.flags.safe_path and folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if sys.path and sys.path[0] in ("", folder) and not is_named:
        del sys.path[0]
