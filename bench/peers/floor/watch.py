"""The floor's watcher, with the least possible work: list, rename, hash, one LPUSH for each file, without any checks."""

import os
import time

from redis import Redis

from bench.peers.work import ROOT, URL, digest

IDLE_SECONDS = 0.001


def main() -> None:
    """Claim and send the files in inbox/ until the process is terminated."""
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
