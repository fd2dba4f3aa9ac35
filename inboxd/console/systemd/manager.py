"""Control systemd through its commands; a failed command raises SettingsError with its output."""

import contextlib
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from inboxd.console.systemd.install_paths import TARGET, WEB_SERVICE, InstallPaths
from inboxd.console.systemd.sandbox import RunningSandbox, parse_running
from inboxd.errors import Finding, SettingsError

COMMAND_TIMEOUT_SECONDS = 300


def run(argv: Sequence[str], *, input_text: str | None = None, timeout_seconds: float = COMMAND_TIMEOUT_SECONDS) -> str:
    """Run a command and return its stdout. Raises SettingsError with its output if it fails."""
    try:
        result = subprocess.run(
            argv, input=input_text, capture_output=True, text=True, errors="replace", timeout=timeout_seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingsError([Finding(shlex.join(argv), str(error), "run the command by hand, and correct the cause")]) from None
    if result.returncode:
        output = (result.stderr.strip() or result.stdout.strip() or f"exit code {result.returncode}").replace("\n", "\n    ")
        raise SettingsError([Finding(shlex.join(argv), output, "correct the cause, and try again")])
    return result.stdout


class Systemctl:
    """The service manager of the system, or of the current user. Methods raise SettingsError if a command fails."""

    def __init__(self, places: InstallPaths) -> None:
        self._places = places
        self._systemctl = ["systemctl", "--user"] if places.user else ["systemctl"]

    @property
    def services(self) -> tuple[str, ...]:
        """The installed services."""
        return self._places.services

    def is_available(self) -> bool:
        """Return whether systemd is the init system of this machine."""
        return Path("/run/systemd/system").is_dir()

    def daemon_reload(self) -> None:
        """Reload the unit files."""
        run([*self._systemctl, "daemon-reload"])

    def verify(self, folder: Path) -> None:
        """Raise SettingsError if systemd reports an error or warning in a unit in ``folder``."""
        scope = ["--user"] if self._places.user else []
        units = [str(folder / unit) for unit in (*self.services, WEB_SERVICE, TARGET)]
        run(["systemd-analyze", *scope, "verify", "--man=no", "--recursive-errors=one", *units])

    def enable(self) -> None:
        """Enable the target and the services, so that they start at boot."""
        run([*self._systemctl, "enable", "--quiet", TARGET, *self._wanted()])

    def _wanted(self) -> list[str]:
        """Return the services that the administrator has not masked: a helper host has no watcher and no beat."""
        return [service for service in self.services if self.show(service, "LoadState") != "masked"]

    def restart(self) -> None:
        """Start or restart all services; return once all are ready."""
        # not the page: a unit that nothing needs is not loaded, and so has no state to reset
        run([*self._systemctl, "reset-failed", *(unit for unit in self._installed_units() if unit != WEB_SERVICE)])
        run([*self._systemctl, "restart", *self._wanted()])
        run([*self._systemctl, "start", TARGET])
        self.restart_page()

    def active(self) -> list[str]:
        """Return the services that run, start or reload."""
        return [
            service for service in self.services if self.show(service, "ActiveState") in ("active", "activating", "reloading")
        ]

    def running_sandbox(self, service: str) -> RunningSandbox | None:
        """Return the sandbox of a service's main process, None if it does not run."""
        process = Path("/proc") / self.show(service, "MainPID")
        try:
            return parse_running((process / "mountinfo").read_text("latin-1"), (process / "environ").read_bytes())
        except OSError:
            return None

    def bind_root(self, service: str, root: str) -> None:
        """Bind-mount a folder writable into the mount namespace of a running service."""
        run([*self._systemctl, "bind", service, root])

    def reload_services(self, services: Sequence[str]) -> None:
        """Make services reload the settings, one after the other."""
        for service in services:
            run([*self._systemctl, "reload", service])

    def restart_active(self) -> list[str]:
        """Restart the services that run; return them."""
        active = self.active()
        if active:
            run([*self._systemctl, "restart", *active])
        self.restart_page()
        return active

    def restart_if_active(self, service: str) -> bool:
        """Restart a service if it runs; return whether it does."""
        is_active = service in self.active()
        if is_active:
            run([*self._systemctl, "restart", service])
        return is_active

    def restart_page(self) -> None:
        """Restart the page if it runs: it holds no file in flight. If it fails, only its own unit does."""
        with contextlib.suppress(SettingsError):
            run([*self._systemctl, "reset-failed", WEB_SERVICE])
        with contextlib.suppress(SettingsError):
            run([*self._systemctl, "try-restart", WEB_SERVICE])

    def stop(self) -> None:
        """Stop and disable all units; files whose handlers do not finish in time are requeued."""
        if units := self._installed_units():
            run([*self._systemctl, "disable", "--now", "--quiet", *units])

    def remove(self, unit: str, path: Path) -> None:
        """Stop and disable a unit, and delete its file."""
        run([*self._systemctl, "disable", "--now", "--quiet", unit])
        path.unlink()

    def show(self, unit: str, key: str) -> str:
        """Return the value of a unit's property."""
        return run([*self._systemctl, "show", "--property", key, "--value", unit]).strip()

    def last_log_lines(self, service: str) -> str:
        """Return a service's last 12 lines in the journal."""
        scope = ["--user-unit"] if self._places.user else ["--unit"]
        return run(["journalctl", "--no-pager", "--lines=12", "--output=cat", *scope, service])

    def _installed_units(self) -> list[str]:
        return [unit for unit in (TARGET, *self.services, WEB_SERVICE) if self.show(unit, "LoadState") not in ("not-found", "")]
