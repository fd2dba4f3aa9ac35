"""Where things lie: for the system's services, and for those of one user."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("inboxd-watcher.service", "inboxd-worker.service", "inboxd-beat.service")
FOLDER_SERVICES = SERVICES[:2]
"""The services that touch files, so that their sandbox must know the inboxes."""
RELOAD_ORDER = (SERVICES[1], SERVICES[0], SERVICES[2])
"""In which order they take up settings: a worker knows a new inbox before the watcher sends its files."""
TARGET = "inboxd.target"
ACCOUNT = "inboxd"
DROP_GROUP = "inboxd-drop"
TEMPLATE_PREFIX = Path("/opt/inboxd/current")
"""The prefix in the units as they are shipped."""


@dataclass(frozen=True, slots=True)
class InstallPaths:
    """The folders of one installation. What is in ``units`` is ours; an administrator's changes go elsewhere."""

    user: bool
    units: Path
    config: Path
    state: Path
    sysusers: Path | None
    tmpfiles: Path | None

    @property
    def settings(self) -> Path:
        """The settings that the services read."""
        return self.config / "settings.toml"

    @property
    def redis_url(self) -> Path:
        """The credential: one line, Redis' URL; empty when the settings name it."""
        return self.config / "redis-url"

    def drop_in(self, service: str) -> Path:
        """Return the path of that part of a service which is written from the settings."""
        return self.units / f"{service}.d" / "50-inboxes.conf"


def system_paths(top: Path = Path("/")) -> InstallPaths:
    """Return the places of the system's services; ``top`` is another root for tests."""
    shared = top / "usr/local/lib"
    return InstallPaths(
        user=False,
        units=shared / "systemd/system",
        config=top / "etc/inboxd",
        state=top / "var/lib/inboxd",
        sysusers=shared / "sysusers.d/inboxd.conf",
        tmpfiles=shared / "tmpfiles.d/inboxd.conf",
    )


def user_paths(home: Path | None = None) -> InstallPaths:
    """Return the places of one user's services: as their units spell them, so no XDG variable moves them."""
    home = home or Path.home()
    return InstallPaths(
        user=True,
        units=home / ".config/systemd/user",
        config=home / ".config/inboxd",
        state=home / ".local/state/inboxd",
        sysusers=None,
        tmpfiles=None,
    )


def prefix() -> Path:
    """Return the environment that this program runs from: the units will call what is in its bin/.

    A release (``…/releases/STAMP``) is called through ``…/current``, which is switched.
    """
    here = Path(sys.prefix)
    return here.parent.parent / "current" if here.parent.name == "releases" else here


def templates() -> Path:
    """Return the folder of the unit files, in a checkout a link to deploy/systemd."""
    return Path(__file__).parent / "templates"


def interpreters() -> list[Path]:
    """Return the paths that a service's Python is run through: the link in the environment, and what it leads to."""
    executable = Path(sys.executable)
    return [executable, Path(os.path.realpath(executable))]
