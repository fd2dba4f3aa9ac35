"""Talking to systemd through its own commands; what they print when they fail is the error."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from inboxd.console.systemd.places import SERVICES, TARGET, InstallPaths
from inboxd.errors import Finding, SettingsError

START_SECONDS = 300


def run(argv: Sequence[str], *, given: str | None = None, timeout_seconds: float = START_SECONDS) -> str:
    """Run a command and return what it printed. Raises SettingsError with its own words when it fails."""
    try:
        done = subprocess.run(
            argv, input=given, capture_output=True, text=True, errors="replace", timeout=timeout_seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError([Finding(shlex.join(argv), str(error), "run it by hand, and mend what it says")]) from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").replace("\n", "\n    ")
        raise SettingsError([Finding(shlex.join(argv), said, "mend what it says, and try again")])
    return done.stdout


class Systemctl:
    """The system's service manager, or a user's."""

    def __init__(self, places: InstallPaths) -> None:
        self._places = places
        self._systemctl = ["systemctl", "--user"] if places.user else ["systemctl"]

    def is_available(self) -> bool:
        """Tell whether systemd runs this machine."""
        return Path("/run/systemd/system").is_dir()

    def daemon_reload(self) -> None:
        """Have the unit files read again."""
        run([*self._systemctl, "daemon-reload"])

    def verify(self, folder: Path) -> None:
        """Raise SettingsError when a unit has an error or a warning."""
        scope = ["--user"] if self._places.user else []
        units = [str(folder / unit) for unit in (*SERVICES, TARGET)]
        run(["systemd-analyze", *scope, "verify", "--man=no", "--recursive-errors=one", *units])

    def enable(self) -> None:
        """Start the target at each boot."""
        run([*self._systemctl, "enable", "--quiet", TARGET, *SERVICES])

    def restart(self) -> None:
        """Start what does not run, and start anew what does; returns once all are ready."""
        run([*self._systemctl, "reset-failed", *self._installed_units()])
        run([*self._systemctl, "restart", *SERVICES])
        run([*self._systemctl, "start", TARGET])

    def active(self) -> list[str]:
        """Return the services that run."""
        return [service for service in SERVICES if self.show(service, "ActiveState") in ("active", "activating", "reloading")]

    def bind_root(self, service: str, root: str) -> None:
        """Let a running service write a folder; its sandbox is as it was made, and gets a mount more. Raises SettingsError."""
        run([*self._systemctl, "bind", service, root])

    def reload_services(self, services: Sequence[str]) -> None:
        """Have services read the settings again, one after the other. Raises SettingsError."""
        for service in services:
            run([*self._systemctl, "reload", service])

    def restart_active(self) -> list[str]:
        """Start anew what runs, and nothing else; returns what did."""
        active = self.active()
        if active:
            run([*self._systemctl, "restart", *active])
        return active

    def stop(self) -> None:
        """Stop and disable everything; running handlers end, or are put back."""
        known = self._installed_units()
        if known:
            run([*self._systemctl, "disable", "--now", "--quiet", *known])

    def show(self, unit: str, key: str) -> str:
        """Return one property of a unit."""
        return run([*self._systemctl, "show", "--property", key, "--value", unit]).strip()

    def last_log_lines(self, service: str) -> str:
        """Return a service's last lines in the journal."""
        scope = ["--user-unit"] if self._places.user else ["--unit"]
        return run(["journalctl", "--no-pager", "--lines=12", "--output=cat", *scope, service])

    def _installed_units(self) -> list[str]:
        return [unit for unit in (TARGET, *SERVICES) if self.show(unit, "LoadState") not in ("not-found", "")]
