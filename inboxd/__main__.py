"""Run the command line program: ``python -m inboxd`` is the command ``inboxd``."""

from inboxd.console.main import main
from inboxd.safe_path import distrust_current_folder

distrust_current_folder()

main()
