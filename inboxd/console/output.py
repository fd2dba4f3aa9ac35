"""What commands print."""

from collections.abc import Iterable

import click


def print_lines(lines: Iterable[str]) -> int:
    """Print many lines, and return how many: the screen is told once for some of them."""
    count = 0
    some: list[str] = []
    for count, line in enumerate(lines, 1):  # noqa: B007
        some.append(line)
        if len(some) >= 500:  # noqa: PLR2004
            click.echo("\n".join(some))
            some = []
    if some:
        click.echo("\n".join(some))
    return count


def print_notice(sentence: str) -> None:
    """Print a sentence to stderr."""
    click.echo(sentence, err=True)
