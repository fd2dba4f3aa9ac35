"""The Celery app, where Celery looks for it: ``celery -A inboxd worker``, ``beat``, ``inspect``, ``flower``."""

from inboxd.safe_path import distrust_current_folder

distrust_current_folder()

from inboxd.tasks.app import app  # noqa: E402 - only now is it ours

__all__ = ["app"]
