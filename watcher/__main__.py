"""``python -m inboxd.watcher``: run the watcher."""

from inboxd.import_path import distrust_current_folder

distrust_current_folder()

import sys  # noqa: E402 - imported only after the path is safe

from inboxd.watcher.main import main  # noqa: E402

sys.exit(main())
