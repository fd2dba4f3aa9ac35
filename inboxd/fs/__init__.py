"""The file system: its calls, moves that never overwrite, walks, and mounts."""
