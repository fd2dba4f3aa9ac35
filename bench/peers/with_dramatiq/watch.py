"""The watcher for dramatiq."""

from bench.peers.watching import watch
from bench.peers.with_dramatiq.tasks import process

if __name__ == "__main__":
    watch(process.send)
