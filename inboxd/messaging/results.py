"""Celery's stored results of parcels."""

from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.states import PENDING

from inboxd.broker.connection import translate_redis_errors

ResultRecord = dict[str, Any]
"""Celery's result record of one task: at least status (str) and result."""


def read_results(app: Celery, parcels: Sequence[str]) -> dict[str, ResultRecord]:
    """Return Celery's result record of each parcel; status PENDING where there is none. Raises BrokerAway."""
    if not parcels:
        return {}
    backend: Any = app.backend  # a key-value store: Redis
    with translate_redis_errors():
        found = backend.mget([backend.get_key_for_task(parcel) for parcel in parcels])
    pending = {"status": PENDING, "result": None}
    return {parcel: backend.decode_result(raw) if raw else pending for parcel, raw in zip(parcels, found, strict=True)}
