"""Reads the results that Celery has stored."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.states import PENDING

from inboxd.broker.connection import translate_redis_errors
from inboxd.broker.forgiving import log_discarded

ResultRecord = dict[str, Any]
"""Celery's result record of one task: at least status (str) and result."""

_PENDING = {"status": PENDING, "result": None}


def no_result() -> ResultRecord:
    """Return the record of a task of which nothing is stored."""
    return dict(_PENDING)


def read_results(app: Celery, parcels: Sequence[str]) -> dict[str, ResultRecord]:
    """Return each parcel's result record; its status is PENDING if none is stored. Raises BrokerUnavailable."""
    if not parcels:
        return {}
    backend: Any = app.backend  # a key-value store: Redis
    with translate_redis_errors():
        rows = backend.mget([backend.get_key_for_task(parcel) for parcel in parcels])
    return {parcel: _decode(app, parcel, raw) for parcel, raw in zip(parcels, rows, strict=True)}


def _decode(app: Celery, parcel: str, raw: bytes | None) -> ResultRecord:
    backend: Any = app.backend
    try:
        record = backend.decode_result(raw) if raw else _PENDING
    except Exception as error:  # noqa: BLE001 - a value that another program wrote may cause any
        record = error
    if isinstance(record, dict) and isinstance(record.get("status"), str):
        return record
    discard_result(app, parcel, f"not a result record: {record!r}")
    return _PENDING


def discard_result(app: Celery, parcel: str, error: str) -> None:
    """Remove a result record that can't be used, and log that. Raises BrokerUnavailable."""
    backend: Any = app.backend
    key = backend.get_key_for_task(parcel)
    log_discarded([key], error)
    with translate_redis_errors():
        backend.delete(key)
