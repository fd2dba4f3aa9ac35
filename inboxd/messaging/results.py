"""Reads the results that Celery has stored."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.states import PENDING

from inboxd.broker.connection import translate_redis_errors

ResultRecord = dict[str, Any]
"""Celery's result record of one task: at least status (str) and result."""


def read_results(app: Celery, parcels: Sequence[str]) -> dict[str, ResultRecord]:
    """Return each parcel's result record; its status is PENDING if none is stored. Raises BrokerUnavailable."""
    if not parcels:
        return {}
    backend: Any = app.backend  # a key-value store: Redis
    with translate_redis_errors():
        rows = backend.mget([backend.get_key_for_task(parcel) for parcel in parcels])
    pending = {"status": PENDING, "result": None}
    return {parcel: backend.decode_result(raw) if raw else pending for parcel, raw in zip(parcels, rows, strict=True)}
