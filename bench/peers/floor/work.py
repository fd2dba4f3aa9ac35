"""The floor's worker: BRPOP, rename."""

import os

from redis import Redis

from bench.peers.work import ROOT, URL


def main() -> None:
    """File away what comes, until the end."""
    client = Redis.from_url(URL, socket_timeout=None)
    claimed, done = str(ROOT / "claimed"), str(ROOT / "done")
    while True:
        _, message = client.brpop("files")  # type: ignore[misc]  # it waits without an end
        name = message.decode().split(" ", 1)[1]  # type: ignore[union-attr]  # redis-py's own type is for either kind of answer
        os.rename(f"{claimed}/{name}", f"{done}/{name}")  # noqa: PTH104


if __name__ == "__main__":
    main()
