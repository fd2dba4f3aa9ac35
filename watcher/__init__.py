"""The watcher: finds complete files and sends them to the workers."""
