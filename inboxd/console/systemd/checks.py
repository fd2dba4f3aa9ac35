"""What would not start is not installed: each reason with its remedy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.loading import ENVIRONMENT_PREFIX, SETTINGS_VARIABLE, load_settings
from inboxd.config.settings import Redis, Settings
from inboxd.console.ping import ping_broker
from inboxd.console.systemd import sandbox
from inboxd.console.systemd.accounts import group_ids
from inboxd.console.systemd.places import ACCOUNT, InstallPaths, interpreters
from inboxd.errors import Finding, SettingsError

LOCAL = "redis://127.0.0.1:6379/0"
HIDDEN = (Path("/home"), Path("/root"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - to be refused
CHECK_SECONDS = 60


def check_interpreter(places: InstallPaths) -> Iterator[Finding]:
    """Find out whether the services could run this Python at all: another user's sandbox hides the homes and /tmp."""
    for path in () if places.user else interpreters():
        if hidden := next((top for top in HIDDEN if top in path.parents), None):
            problem = f"the services can't see {hidden}: this Python would not start there"
            remedy = "install with deploy/install.sh, or into an environment below /opt made with /usr/bin/python3 -m venv"
            yield Finding(str(path), problem, remedy)
            return


def load_service_settings(places: InstallPaths) -> Settings:
    """Read the services' settings as the services will: their file, their credential, no variable of ours.

    Raises SettingsError for what is wrong in them, and for a Redis that nobody names.
    """
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.upper().startswith(ENVIRONMENT_PREFIX) or name == "CREDENTIALS_DIRECTORY"
    }
    try:
        for name in ours:
            del os.environ[name]
        os.environ["CREDENTIALS_DIRECTORY"] = str(places.config)
        settings = load_settings(places.settings)
    finally:
        os.environ.pop("CREDENTIALS_DIRECTORY", None)
        os.environ.update(ours)
    findings = list(sandbox.find_unusable_roots(settings, places))
    if not settings.redis.url:
        remedy = f"apt install redis-server, or write a URL into {places.redis_url}: redis://, rediss:// or unix://"
        findings.append(Finding("redis.url", f"is not set, and no Redis answers at {LOCAL}", remedy))
    if findings:
        raise SettingsError(findings)
    return settings


def find_local_redis(settings: Settings) -> str:
    """Return the URL of the Redis that Debian's package starts, if one answers there, else ""."""
    there = settings.model_copy(update={"redis": Redis(url=LOCAL)})
    return LOCAL if ping_broker(there) else ""


def check_as_service_user(settings: Settings, places: InstallPaths) -> None:
    """Run `inboxd check` as the services' user: what it can't do, they can't.

    Raises SettingsError with what it said.
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        SETTINGS_VARIABLE: str(places.settings),
        f"{ENVIRONMENT_PREFIX}REDIS__URL": settings.redis.url,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    user, group, extra = (None, None, None) if places.user else (ACCOUNT, *group_ids(ACCOUNT))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "inboxd", "check"], env=environment, cwd="/", user=user, group=group, extra_groups=extra,
        capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "\n    ")
        raise SettingsError([Finding(f"`inboxd check` as the user {ACCOUNT}", said, "mend what it says, and install again")])
