"""``python -m inboxd.watcher``: runs the watcher."""

from inboxd.safe_path import distrust_current_folder

distrust_current_folder()

import sys  # noqa: E402 - only now is the rest ours

from inboxd.watcher.main import main  # noqa: E402

sys.exit(main())
