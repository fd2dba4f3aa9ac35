"""Releases: a virtual environment for each installation, and a symlink to the current one."""

import shutil
import sys
from pathlib import Path

RELEASES_MAX = 2


def running_release() -> Path | None:
    """Return the release that this program runs from, or None if it was installed in another way."""
    environment = Path(sys.prefix).resolve()
    return environment if environment.parent.name == "releases" else None


def current_release(link: Path) -> Path | None:
    """Return the release to which ``link`` points, or None."""
    return link.resolve() if link.is_symlink() and link.exists() else None


def switch_to(link: Path, release: Path) -> None:
    """Point ``link`` to another release, atomically: at no time is there no current release."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(release.relative_to(link.parent))
    temporary.replace(link)


def previous_release(link: Path) -> Path | None:
    """Return the newest release older than the current one, by name: names are time stamps. None if there is none."""
    current = current_release(link)
    older = [path for path in _complete_releases(link) if current is not None and path.name < current.name]
    return older[-1] if older else None


def remove_old_releases(link: Path) -> None:
    """Remove all releases except the current one and the newest other one."""
    current = current_release(link)
    others = [path for path in _complete_releases(link) if path != current]
    for path in others[: len(others) - (RELEASES_MAX - 1)]:
        shutil.rmtree(path)


def _complete_releases(link: Path) -> list[Path]:
    """Return the releases, oldest first, without those whose installation did not reach bin/inboxd."""
    return sorted(path for path in (link.parent / "releases").glob("*") if (path / "bin" / "inboxd").exists())
