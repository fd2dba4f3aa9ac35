"""Log files: rotated, compressed, growing, and searched."""
