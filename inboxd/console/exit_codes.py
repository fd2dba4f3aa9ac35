"""The exit codes of commands."""

EXIT_ATTENTION = 1
"""Exit code of a command that found something that needs attention, or that did not find the requested file."""

EXIT_BAD_SETTINGS = 2
"""Exit code if settings or folders are unusable, which a restart would not correct."""
