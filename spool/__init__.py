"""The ground: what a file is, where it lies, how it moves. Knows no program."""
