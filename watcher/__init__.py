"""Notices files and hands them in: ``python -m watcher``."""
