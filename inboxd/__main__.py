"""Run the command line program: ``python -m inboxd`` is the command ``inboxd``."""

from inboxd.import_path import distrust_current_folder

distrust_current_folder()

from inboxd.console.main import main  # noqa: E402 - only now is it ours

main()
