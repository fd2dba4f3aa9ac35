"""dramatiq's actor."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import work

dramatiq.set_broker(RedisBroker(url=work.URL))


@dramatiq.actor  # type: ignore[untyped-decorator]
def process(path: str) -> None:
    """Hash a file and move it to done/."""
    work.digest(path)
    work.move_to_done(path)
