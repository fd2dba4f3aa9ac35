"""``python -m inboxd.watcher``: run the watcher."""

from inboxd.safe_path import distrust_current_folder
from inboxd.watcher.main import main

distrust_current_folder()

import sys  # noqa: E402 - imported only after the path is safe

sys.exit(main())
