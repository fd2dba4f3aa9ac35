"""The watcher of plain Celery."""

from bench.peers.watching import watch
from bench.peers.with_celery.tasks import finished, process

if __name__ == "__main__":
    watch(lambda path: process.apply_async((path,), link=finished.s()))
