"""``python -m inboxd.watcher``: runs the watcher."""

from inboxd.safe_path import distrust_current_folder
from inboxd.watcher.main import main

distrust_current_folder()

import sys  # noqa: E402 - only now is the rest ours

sys.exit(main())
