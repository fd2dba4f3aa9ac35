"""The Celery app under the name that ``celery -A inboxd`` looks up (``worker``, ``beat``, ``inspect``, ``flower``)."""

from inboxd.import_path import distrust_current_folder

distrust_current_folder()

from inboxd.tasks.app import app  # noqa: E402 - imports only after the current folder is off the import path

__all__ = ["app"]
