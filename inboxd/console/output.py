"""The only module that prints: what it prints can't move a terminal's cursor, whatever files, notes and logs contain."""

from collections.abc import Iterable
from itertools import islice

import click

from inboxd.logs.text import escape

_BATCH_LINES = 500
"""Lines per write: one write for each line would cost a system call each."""


def echo(text: str, *, err: bool = False) -> None:
    """Print text, each line of it escaped; with ``err`` to stderr."""
    click.echo("\n".join(map(escape, text.split("\n"))), err=err)


def print_lines(lines: Iterable[str]) -> int:
    """Print lines in batches, and return their number."""
    count, remaining = 0, iter(lines)
    while batch := list(islice(remaining, _BATCH_LINES)):
        echo("\n".join(batch))
        count += len(batch)
    return count


def print_notice(sentence: str) -> None:
    """Print a sentence to stderr."""
    echo(sentence, err=True)
