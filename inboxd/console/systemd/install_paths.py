"""Names of units and accounts, and the paths of an installation for the system or for one user."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("inboxd-watcher.service", "inboxd-worker.service", "inboxd-beat.service")
SERVER_SERVICE = "inboxd-valkey.service"
"""The server of its own, which is installed if redis.url is empty."""
WORKER_SERVICE = SERVICES[1]
BEAT_SERVICE = SERVICES[2]
WEB_SERVICE = "inboxd-web.service"
"""The page: installed, but neither enabled nor started; if it runs, it is restarted with the others."""
FOLDER_SERVICES = SERVICES[:2]
"""Services whose sandbox must include the inboxes' roots."""
SANDBOXED_SERVICES = (*FOLDER_SERVICES, WEB_SERVICE)
"""Services with a generated drop-in; the page moves failed files back, and so writes to the roots."""
RELOAD_ORDER = (SERVICES[1], SERVICES[0], SERVICES[2])
"""Order of reloads: the worker must have a new inbox in its settings before the watcher sends its files."""
TARGET = "inboxd.target"
ACCOUNT = "inboxd"
DROP_GROUP = "inboxd-drop"
TEMPLATE_PREFIX = Path("/opt/inboxd/current")
"""The prefix in the unit templates, replaced at installation."""


@dataclass(frozen=True, slots=True)
class InstallPaths:
    """The paths of an installation. Files in ``units`` are overwritten; an administrator's drop-ins belong elsewhere."""

    user: bool
    units: Path
    config: Path
    state: Path
    sysusers: Path | None
    tmpfiles: Path | None
    share: Path

    @property
    def settings(self) -> Path:
        """The path of the services' settings file."""
        return self.config / "settings.toml"

    @property
    def redis_url(self) -> Path:
        """The path of the credential with the Redis URL; the file is empty if settings.toml sets redis.url."""
        return self.config / "redis-url"

    @property
    def services(self) -> tuple[str, ...]:
        """The installed services, in the order of their start."""
        return (SERVER_SERVICE, *SERVICES) if (self.units / SERVER_SERVICE).exists() else SERVICES

    def drop_in(self, service: str) -> Path:
        """Return the path of a service's drop-in that is generated from the settings."""
        return self.units / f"{service}.d" / "50-inboxes.conf"


def system_paths(root: Path = Path("/")) -> InstallPaths:
    """Return the paths of system services; tests pass another ``root``."""
    lib = root / "usr/local/lib"
    return InstallPaths(
        user=False,
        units=lib / "systemd/system",
        config=root / "etc/inboxd",
        state=root / "var/lib/inboxd",
        sysusers=lib / "sysusers.d/inboxd.conf",
        tmpfiles=lib / "tmpfiles.d/inboxd.conf",
        share=root / "usr/local/share",
    )


def user_paths(home: Path | None = None) -> InstallPaths:
    """Return the paths of a user's services; XDG variables are ignored, since the units contain these paths."""
    home = home or Path.home()
    return InstallPaths(
        user=True,
        units=home / ".config/systemd/user",
        config=home / ".config/inboxd",
        state=home / ".local/state/inboxd",
        sysusers=None,
        tmpfiles=None,
        share=home / ".local/share",
    )


def prefix() -> Path:
    """Return the virtual environment whose bin/ the units use: this program's one.

    For a release (``…/releases/STAMP``) that is the symlink ``…/current``, which an upgrade or rollback switches.
    """
    environment = Path(sys.prefix)
    return environment.parent.parent / "current" if environment.parent.name == "releases" else environment


def templates() -> Path:
    """Return the folder of the unit templates; in a checkout, it is a symlink to deploy/systemd."""
    return Path(__file__).parent / "templates"


def interpreters() -> list[Path]:
    """Return the path of this Python in its environment, and the real path of the executable."""
    executable = Path(sys.executable)
    return [executable, Path(os.path.realpath(executable))]
