"""Link man pages and completion scripts to the current release, so that an upgrade or a rollback changes them, too."""

from collections.abc import Iterator
from pathlib import Path

from inboxd.console.systemd.install_paths import InstallPaths

FOLDERS = ("man/man1", "bash-completion/completions", "zsh/site-functions", "fish/vendor_completions.d")
PATTERNS = ("inboxd*", "_inboxd")


def link_pages(places: InstallPaths, environment: Path) -> int:
    """Link the pages and scripts of an environment's share/ into those of the system or the user; return their number.

    Links of an earlier installation are replaced or removed; a file that is no link of ours stays.
    """
    remove_pages(places, environment)
    count = 0
    for page in _find(environment / "share"):
        link = places.share / page.relative_to(environment / "share")
        if link.exists() or link.is_symlink():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(page)
        count += 1
    return count


def remove_pages(places: InstallPaths, environment: Path) -> None:
    """Remove the links that lead into an environment's share/."""
    for page in _find(places.share):
        if page.is_symlink() and page.readlink().is_relative_to(environment / "share"):
            page.unlink()


def _find(share: Path) -> Iterator[Path]:
    """Yield the pages and scripts below a share/."""
    for folder in FOLDERS:
        for pattern in PATTERNS:
            yield from sorted((share / folder).glob(pattern))
