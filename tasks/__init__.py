"""Celery's side: works on parcels, files them, sweeps. What handlers import stands here."""

from spool.errors import RejectFile
from spool.inboxfile import InboxFile

__all__ = ["InboxFile", "RejectFile"]
