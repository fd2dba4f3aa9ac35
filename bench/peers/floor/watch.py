"""The floor's watcher: list, rename, read and hash, one LPUSH for each file. It trusts every file, and remembers nothing."""

import os
import time

from redis import Redis

from bench.peers.work import ROOT, URL, digest

IDLE_SECONDS = 0.001


def main() -> None:
    """Take in what lies in inbox/, until the end."""
    client = Redis.from_url(URL, socket_timeout=None)
    inbox, claimed = str(ROOT / "inbox"), str(ROOT / "claimed")
    while True:
        names = os.listdir(inbox)  # noqa: PTH208 - the floor
        for name in names:
            path = f"{claimed}/{name}"
            os.rename(f"{inbox}/{name}", path)  # noqa: PTH104
            client.lpush("files", f"{digest(path)} {name}")
        if not names:
            time.sleep(IDLE_SECONDS)


if __name__ == "__main__":
    main()
