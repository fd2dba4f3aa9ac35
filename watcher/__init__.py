"""The watcher: notices complete files and hands them to the workers."""
