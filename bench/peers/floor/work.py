"""The floor's worker: BRPOP, rename."""

import os

from redis import Redis

from bench.peers.work import ROOT, URL


def main() -> None:
    """Move each received file to done/ until the process is terminated."""
    client = Redis.from_url(URL, socket_timeout=None)
    claimed, done = str(ROOT / "claimed"), str(ROOT / "done")
    while True:
        _, message = client.brpop("files")  # type: ignore[misc]  # without a timeout, never None
        name = message.decode().split(" ", 1)[1]  # type: ignore[union-attr]  # redis-py's type covers bytes and str
        os.rename(f"{claimed}/{name}", f"{done}/{name}")  # noqa: PTH104


if __name__ == "__main__":
    main()
