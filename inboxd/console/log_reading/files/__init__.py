"""Read log files, including rotated, compressed and growing ones."""
