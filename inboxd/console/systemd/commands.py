"""`inboxd systemd …`: what an administrator types."""

import sys
from collections.abc import Callable

import click

from inboxd.console.systemd import checks
from inboxd.console.systemd import install as steps
from inboxd.console.systemd.manager import Systemctl
from inboxd.console.systemd.places import InstallPaths, system_paths, user_paths
from inboxd.errors import SettingsError
from inboxd.logs.text import escape

FAILED = 1

user_option = click.option("--user", "user", is_flag=True, help="Services of your own, without root, instead of the system's.")


@click.group()
def systemd() -> None:
    """Install inboxd as systemd services, and look after that."""


def _add_command(name: str, doc: str, step: Callable[[InstallPaths, Systemctl, steps.Say], None]) -> None:
    @user_option
    def command(user: bool) -> None:
        places = user_paths() if user else system_paths()
        step(places, Systemctl(places), _print)

    systemd.command(name, help=doc)(command)


def _print(line: str) -> None:
    click.echo("\n".join(map(escape, line.split("\n"))))


_add_command("install", "Install, repair or upgrade: write the units, check the settings, start the services.", steps.install)
_add_command("sync", "Follow the settings: make new inboxes' folders, and let the services into them.", steps.sync)
_add_command("rollback", "Go back to the release that was installed before this one.", steps.roll_back)
_add_command("uninstall", "Stop and remove the services; settings and files stay.", steps.uninstall)


@systemd.command()
@user_option
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge(user: bool, yes: bool) -> None:
    """Remove everything: services, settings, state, accounts, and all files in the inboxes."""
    places = user_paths() if user else system_paths()
    if not yes:
        for folder in steps.data_folders(places):
            count = sum(1 for entry in folder.rglob("*") if not entry.is_dir())
            click.echo(escape(f"{folder}: {count} files"))
        click.confirm("Delete these, the settings and the state?", abort=True)
    steps.purge(places, Systemctl(places), _print)


@systemd.command()
@user_option
def status(user: bool) -> None:
    """Show the services, and whether their sandbox fits the settings; exit code 1 if something is amiss."""
    places = user_paths() if user else system_paths()
    try:
        settings = checks.load_service_settings(places)
    except SettingsError as error:
        _print(str(error))
        settings = None
    told = steps.describe_states(settings, places, Systemctl(places))
    for subject, state in told:
        _print(f"{subject}: {state}")
    well = settings is not None and all(state.startswith(("active", "fits")) for _, state in told)
    sys.exit(0 if well else FAILED)
