"""The commands of `inboxd systemd`."""

import sys
from collections.abc import Callable

import click

from inboxd.console.output import echo
from inboxd.console.systemd import checks
from inboxd.console.systemd import install as steps
from inboxd.console.systemd.install_paths import InstallPaths, system_paths, user_paths
from inboxd.console.systemd.manager import Systemctl
from inboxd.errors import SettingsError

FAILED = 1

user_option = click.option("--user", "user", is_flag=True, help="Manage services of the current user, without root.")


@click.group()
def systemd() -> None:
    """Install and manage inboxd as systemd services."""


def _add_command(name: str, doc: str, step: Callable[[InstallPaths, Systemctl, steps.Print], None]) -> None:
    @user_option
    def command(user: bool) -> None:
        places = user_paths() if user else system_paths()
        step(places, Systemctl(places), _print)

    systemd.command(name, help=doc)(command)


def _print(line: str) -> None:
    echo(line)


_add_command("install", "Install, repair or upgrade: write the units, check the settings, start the services.", steps.install)
_add_command("sync", "Apply the settings: create the folders of new inboxes, and adapt the sandbox.", steps.sync)
_add_command("rollback", "Switch back to the previously installed release.", steps.roll_back)
_add_command("uninstall", "Stop and remove the services; keep settings and files.", steps.uninstall)


@systemd.command()
@user_option
@click.option("--yes", is_flag=True, help="Don't ask for confirmation.")
def purge(user: bool, yes: bool) -> None:
    """Remove the services, settings, state, accounts, and all files in the inboxes."""
    places = user_paths() if user else system_paths()
    if not yes:
        for folder in steps.data_folders(places):
            count = sum(1 for entry in folder.rglob("*") if not entry.is_dir())
            echo(f"{folder}: {count} files")
        click.confirm("Delete these files, the settings and the state?", abort=True)
    steps.purge(places, Systemctl(places), _print)


@systemd.command()
@user_option
def status(user: bool) -> None:
    """Show the state of the services and of their sandbox; exit code 1 if a service is down or the sandbox is outdated."""
    places = user_paths() if user else system_paths()
    try:
        settings = checks.load_service_settings(places)
    except SettingsError as error:
        _print(str(error))
        settings = None
    states = steps.describe_states(settings, places, Systemctl(places))
    for subject, state in states:
        _print(f"{subject}: {state}")
    is_healthy = settings is not None and all(state.startswith(("active", "matches")) for _, state in states)
    sys.exit(0 if is_healthy else FAILED)
