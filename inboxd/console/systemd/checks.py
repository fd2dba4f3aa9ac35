"""Check, before the installation, whether the services would start: interpreter, settings, Redis, permissions."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.loading import ENVIRONMENT_PREFIX, SETTINGS_VARIABLE, load_settings
from inboxd.config.settings import Settings
from inboxd.console.systemd import sandbox
from inboxd.console.systemd.accounts import group_ids
from inboxd.console.systemd.install_paths import ACCOUNT, InstallPaths, interpreters
from inboxd.errors import Finding, SettingsError

HIDDEN_FOLDERS = (Path("/home"), Path("/root"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - refused, not used
CHECK_SECONDS = 60


def check_interpreter(places: InstallPaths) -> Iterator[Finding]:
    """Yield a finding if this Python lies in a folder that the system services' sandbox hides."""
    for path in () if places.user else interpreters():
        if hidden := next((folder for folder in HIDDEN_FOLDERS if folder in path.parents), None):
            problem = f"the sandbox of the services hides {hidden}, so that they could not start this Python"
            remedy = "install with deploy/install.sh, or into an environment below /opt made with /usr/bin/python3 -m venv"
            yield Finding(str(path), problem, remedy)
            return


def load_service_settings(places: InstallPaths) -> Settings:
    """Return the settings as the services read them: from their file and credential, without this process's variables.

    Raises SettingsError if they are invalid.
    """
    own_variables = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(ENVIRONMENT_PREFIX) or name == "CREDENTIALS_DIRECTORY"
    }
    try:
        for name in own_variables:
            del os.environ[name]
        os.environ["CREDENTIALS_DIRECTORY"] = str(places.config)
        settings = load_settings(places.settings)
    finally:
        os.environ.pop("CREDENTIALS_DIRECTORY", None)
        os.environ.update(own_variables)
    findings = list(sandbox.find_unusable_roots(settings, places))
    if findings:
        raise SettingsError(findings)
    return settings


def check_as_service_user(settings: Settings, places: InstallPaths) -> None:
    """Run `inboxd check` as the services' user, with its permissions. Raises SettingsError with the output if it fails."""
    environment = {
        "PATH": "/usr/bin:/bin",
        SETTINGS_VARIABLE: str(places.settings),
        f"{ENVIRONMENT_PREFIX}REDIS__URL": settings.redis.url,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    user, group, extra = (None, None, None) if places.user else (ACCOUNT, *group_ids(ACCOUNT))
    argv = [sys.executable, "-P", "-m", "inboxd", "check", "--no-sandbox"]
    result = subprocess.run(
        argv, env=environment, cwd="/", user=user, group=group, extra_groups=extra,
        capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False,
    )  # fmt: skip
    if result.returncode:
        output = (result.stderr.strip() or result.stdout.strip()).replace("\n", "\n    ")
        raise SettingsError([Finding(f"`inboxd check` as the user {ACCOUNT}", output, "correct the cause, and install again")])
