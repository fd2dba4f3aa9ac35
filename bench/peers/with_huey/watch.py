"""The watcher for huey."""

from bench.peers.watching import watch
from bench.peers.with_huey.tasks import process

if __name__ == "__main__":
    watch(process)
