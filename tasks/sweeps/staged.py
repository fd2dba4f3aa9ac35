"""Removes from the store the copies of files that are filed, and what uploads have left that died."""

import contextlib
import threading
from functools import partial

from inboxd.config.rules import Inbox
from inboxd.errors import BrokerUnavailable, FolderUnavailable, StageUnavailable
from inboxd.fs.bounded import run_on_mounts
from inboxd.logs import events
from inboxd.logs.logger import get_logger
from inboxd.spool.claims import list_parcels
from inboxd.spool.layout import is_parcel_id, open_folders
from inboxd.stage.records import StageRecords
from inboxd.stage.store import Store
from inboxd.tasks.process_state.context import WorkerContext

MOUNT_SECONDS = 2.0
WAIT_SECONDS = 0.5
"""How long a sweep waits for the store; it goes on in a thread of its own, one in each process."""

_log = get_logger(__name__)
_busy = threading.Lock()


def remove_filed(context: WorkerContext, *, listed: bool = False) -> None:
    """Remove the copies of parcels that are not claimed any more; ``listed``: of all that the store has of this host.

    Nothing is removed while the parcels of an inbox are not known. Raises BrokerUnavailable.
    """
    store = context.store
    if store is None or not _busy.acquire(blocking=False):
        return
    records = StageRecords(context.client, context.host)
    try:
        known = records.list_parcels()
    except BrokerUnavailable:
        _busy.release()
        raise
    thread = threading.Thread(target=_remove, args=(context, store, records, known, listed), name="stage", daemon=True)
    thread.start()
    thread.join(WAIT_SECONDS)


def _remove(context: WorkerContext, store: Store, records: StageRecords, known: list[str], listed: bool) -> None:
    try:
        found = {*known, *(filter(is_parcel_id, store.list_parcels(context.host)) if listed else ())}
        for parcel in sorted(found - _list_claimed(context)) if found else ():
            store.remove(context.host, parcel)
            records.forget(parcel)
            _log.info(events.STAGED_REMOVED, parcel=parcel)
    except StageUnavailable as error:
        with contextlib.suppress(BrokerUnavailable):
            if records.set_fault(str(error)):
                _log.warning(events.STAGE_UNAVAILABLE, error=str(error), remedy="make it available; the next sweep tries again")
    except (BrokerUnavailable, FolderUnavailable, OSError) as error:
        _log.debug(events.STAGED_REMOVED, error=str(error))
    finally:
        _busy.release()


def _list_claimed(context: WorkerContext) -> set[str]:
    """Return all claimed parcels, read after the copies were listed. Raises FolderUnavailable, OSError."""
    claimed: set[str] = set()
    for inbox in context.settings.inbox.values():
        claimed.update(run_on_mounts(context.disk, inbox.root, partial(_list_of, context, inbox), MOUNT_SECONDS))
    return claimed


def _list_of(context: WorkerContext, inbox: Inbox) -> list[str]:
    with open_folders(context.disk, inbox.root) as folders:
        return list_parcels(context.disk, folders)
