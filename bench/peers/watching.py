"""The watcher of the Python peers: watchdog's observer, which sends a message for each new file."""

from collections.abc import Callable

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from bench.peers.work import ROOT


class _Handler(FileSystemEventHandler):
    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send

    def on_created(self, event: FileSystemEvent) -> None:
        """Send a new file's path; a rename into the folder also triggers this event."""
        if not event.is_directory:
            self._send(str(event.src_path))


def watch(send: Callable[[str], object]) -> None:
    """Watch inbox/ until the process is terminated."""
    observer = Observer()
    observer.schedule(_Handler(send), str(ROOT / "inbox"))
    observer.start()
    observer.join()
