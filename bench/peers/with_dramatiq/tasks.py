"""dramatiq's actor."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import work

dramatiq.set_broker(RedisBroker(url=work.URL))


@dramatiq.actor  # type: ignore[untyped-decorator]
def process(path: str) -> None:
    """Work on a file, and file it away."""
    work.digest(path)
    work.file_away(path)
