"""`inboxd systemd …`: what an administrator types."""

import sys
from collections.abc import Callable

import click

from inboxd.console.systemd import install as steps
from inboxd.console.systemd import refusals
from inboxd.console.systemd.manager import Manager
from inboxd.console.systemd.places import Places, of_user, system
from inboxd.errors import SettingsError
from inboxd.logs.text import escape

FAILED = 1

for_user = click.option("--user", "user", is_flag=True, help="Services of your own, without root, instead of the system's.")


@click.group()
def systemd() -> None:
    """Install inboxd as systemd services, and look after that."""


def _step(name: str, doc: str, step: Callable[[Places, Manager, steps.Say], None]) -> None:
    @for_user
    def command(user: bool) -> None:
        places = of_user() if user else system()
        step(places, Manager(places), _say)

    systemd.command(name, help=doc)(command)


def _say(line: str) -> None:
    click.echo("\n".join(map(escape, line.split("\n"))))


_step("install", "Install, repair or upgrade: write the units, check the settings, start the services.", steps.install)
_step("sync", "Follow the settings: make new inboxes' folders, and let the services into them.", steps.sync)
_step("rollback", "Go back to the release that was installed before this one.", steps.roll_back)
_step("uninstall", "Stop and remove the services; settings and files stay.", steps.uninstall)


@systemd.command()
@for_user
@click.option("--yes", is_flag=True, help="Don't ask.")
def purge(user: bool, yes: bool) -> None:
    """Remove everything: services, settings, state, accounts, and all files in the inboxes."""
    places = of_user() if user else system()
    if not yes:
        for folder in steps.data(places):
            count = sum(1 for entry in folder.rglob("*") if not entry.is_dir())
            click.echo(escape(f"{folder}: {count} files"))
        click.confirm("Delete these, the settings and the state?", abort=True)
    steps.purge(places, Manager(places), _say)


@systemd.command()
@for_user
def status(user: bool) -> None:
    """Show the services, and whether their sandbox fits the settings; exit code 1 if something is amiss."""
    places = of_user() if user else system()
    try:
        settings = refusals.settings_of(places)
    except SettingsError as error:
        _say(str(error))
        settings = None
    told = steps.states(settings, places, Manager(places))
    for subject, state in told:
        _say(f"{subject}: {state}")
    well = settings is not None and all(state.startswith(("active", "fits")) for _, state in told)
    sys.exit(0 if well else FAILED)
