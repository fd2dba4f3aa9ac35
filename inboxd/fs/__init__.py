"""File system access: system calls, moves that never overwrite, directory walks, and mounts."""
