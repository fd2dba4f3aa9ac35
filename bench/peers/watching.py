"""The watcher of every peer that is written in Python: watchdog's own observer, and a message for each new file."""

from collections.abc import Callable

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from bench.peers.work import ROOT


class _Handler(FileSystemEventHandler):
    def __init__(self, send: Callable[[str], object]) -> None:
        self._send = send

    def on_created(self, event: FileSystemEvent) -> None:
        """Send what has appeared: a file that is renamed into the folder is "created", too."""
        if not event.is_directory:
            self._send(str(event.src_path))


def watch(send: Callable[[str], object]) -> None:
    """Watch inbox/ until the end."""
    observer = Observer()
    observer.schedule(_Handler(send), str(ROOT / "inbox"))
    observer.start()
    observer.join()
