"""The watcher for RQ."""

from redis import Redis
from rq import Queue

from bench.peers import work
from bench.peers.watching import watch
from bench.peers.with_rq.tasks import process

if __name__ == "__main__":
    queue = Queue(connection=Redis.from_url(work.URL))
    watch(lambda path: queue.enqueue(process, path))
