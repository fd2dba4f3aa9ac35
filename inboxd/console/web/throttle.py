"""Limits how fast passwords can be tried: after a few failures in a row, an address waits, twice as long after each one."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_ATTEMPTS = 5
"""Wrong passwords in a row without a delay."""
DELAY_SECONDS, DELAY_SECONDS_MAX = 2.0, 300.0
"""The first delay, which doubles with each further failure, and the longest one."""
ADDRESSES_MAX = 1000
"""Addresses that are remembered, the latest ones."""


@dataclass(slots=True)
class _Attempts:
    failures: int = 0
    next_at: float = 0.0


class LoginThrottle:
    """Counts failed logins by address. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._by_address: OrderedDict[str, _Attempts] = OrderedDict()

    @property
    def remembered(self) -> int:
        """The number of addresses with failures."""
        return len(self._by_address)

    def begin_attempt(self, address: str) -> float:
        """Count an attempt as failed, until ``succeed``, and return 0; or return the seconds that it must wait first."""
        with self._lock:
            attempts = self._by_address.setdefault(address, _Attempts())
            self._by_address.move_to_end(address)
            if len(self._by_address) > ADDRESSES_MAX:
                self._by_address.popitem(last=False)
            now = self._clock()
            if now < attempts.next_at:
                return attempts.next_at - now
            attempts.failures += 1
            if attempts.failures >= FREE_ATTEMPTS:
                doublings = min(attempts.failures - FREE_ATTEMPTS, 30)
                attempts.next_at = now + min(DELAY_SECONDS * 2**doublings, DELAY_SECONDS_MAX)
            return 0.0

    def succeed(self, address: str) -> None:
        """Forget an address's failures."""
        with self._lock:
            self._by_address.pop(address, None)
