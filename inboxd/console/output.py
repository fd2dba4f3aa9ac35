"""Print lines and notices."""

from collections.abc import Iterable
from itertools import islice

import click

_BATCH_LINES = 500
"""Lines per write: one write for each line would cost a system call each."""


def print_lines(lines: Iterable[str]) -> int:
    """Print lines in batches, and return their number."""
    count, remaining = 0, iter(lines)
    while batch := list(islice(remaining, _BATCH_LINES)):
        click.echo("\n".join(batch))
        count += len(batch)
    return count


def print_notice(sentence: str) -> None:
    """Print a sentence to stderr."""
    click.echo(sentence, err=True)
