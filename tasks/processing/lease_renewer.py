"""Renews the leases of the parcels that this process works on, from a thread, while handlers run."""

import contextlib
import threading
import time
from collections.abc import Iterator

from inboxd.broker.leases import Leases
from inboxd.errors import BrokerUnavailable
from inboxd.logs import events
from inboxd.logs.logger import get_logger

RENEWALS_PER_LEASE = 3


class LeaseRenewer:
    """Renews leases from a thread of its own, which starts with the first parcel, and so after the fork."""

    def __init__(self, leases: Leases, lease_seconds: float) -> None:
        self._leases = leases
        self._seconds = lease_seconds
        self._lock = threading.Lock()
        self._renewed: set[tuple[str, str]] = set()
        self._thread: threading.Thread | None = None
        self._log = get_logger(__name__)
        self._is_broker_unavailable = False

    @contextlib.contextmanager
    def renewing(self, parcel: str, token: str) -> Iterator[None]:
        """Renew a parcel's lease until the block ends. A lost lease is logged, and the work goes on."""
        with self._lock:
            self._renewed.add((parcel, token))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._renewed.discard((parcel, token))

    def _run(self) -> None:
        while True:
            time.sleep(self._seconds / RENEWALS_PER_LEASE)
            with self._lock:
                renewed = list(self._renewed)
            for parcel, token in renewed:
                self._renew(parcel, token)

    def _renew(self, parcel: str, token: str) -> None:
        try:
            if not self._leases.renew(parcel, token, self._seconds) and (parcel, token) in self._renewed:
                self._log.warning(
                    events.LEASE_LOST, parcel=parcel, why="the lease has another owner, or the parcel was requeued or filed"
                )
            self._is_broker_unavailable = False
        except BrokerUnavailable as error:
            if not self._is_broker_unavailable:
                self._log.warning(events.BROKER_UNAVAILABLE, error=str(error), what="renewing leases")
            self._is_broker_unavailable = True
