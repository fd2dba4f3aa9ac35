"""Releases: one environment for each installation, a link to the current one, and the one before it to go back to."""

import os
import shutil
import sys
from pathlib import Path

KEEP = 2


def running_release() -> Path | None:
    """Return the release that this program runs from, or None when it was installed in another way."""
    here = Path(sys.prefix).resolve()
    return here if here.parent.name == "releases" else None


def current_release(link: Path) -> Path | None:
    """Return the release that the link leads to."""
    return link.resolve() if link.is_symlink() and link.exists() else None


def switch_to(link: Path, to: Path) -> None:
    """Let the link lead to another release, in one step: there is always a current one."""
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(to.relative_to(link.parent))
    os.replace(fresh, link)  # noqa: PTH105 - the system call is the point


def previous_release(link: Path) -> Path | None:
    """Return the newest release that is older than the current one: names are dates."""
    now = current_release(link)
    older = [path for path in _all(link) if now is not None and path.name < now.name]
    return older[-1] if older else None


def remove_old_releases(link: Path) -> None:
    """Remove all releases but the current one and the newest beside it."""
    now = current_release(link)
    others = [path for path in _all(link) if path != now]
    for path in others[: len(others) - (KEEP - 1)]:
        shutil.rmtree(path)


def _all(link: Path) -> list[Path]:
    """Return the whole releases, oldest first; a half one has no program in it."""
    return sorted(path for path in (link.parent / "releases").glob("*") if (path / "bin" / "inboxd").exists())
