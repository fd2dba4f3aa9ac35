"""`inboxd check`: find what is wrong with the settings and the folders."""

import threading
from pathlib import Path

import click

from inboxd.broker.connection import broker_url, make_client, without_password
from inboxd.broker.installations import NAMESPACE_REMEDY, describe_installation, find_conflict
from inboxd.broker.server_checks import find_open_doors, find_server_problems
from inboxd.config.settings import Settings
from inboxd.console.commands.notify import find_problems as find_notify_problems
from inboxd.console.options import read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.ping import PingResult, ping_broker
from inboxd.console.systemd import notify_sandbox, sandbox
from inboxd.console.systemd.install_paths import system_paths
from inboxd.console.up.server_address import parse_local_address
from inboxd.errors import BrokerUnavailable, Finding, SettingsError, StageUnavailable
from inboxd.service import preflight
from inboxd.service.setup_notes import find_notes
from inboxd.stage.store import Store, find_stage_problems

STAGE_SECONDS = 15.0
"""Maximum time to try the store of [stage]."""


@click.command()
@settings_option
@click.option("--no-broker", is_flag=True, help="Don't check whether Redis answers.")
@click.option("--no-folders", is_flag=True, help="Don't check the inboxes' folders: for users who may not read them.")
@click.option("--no-sandbox", is_flag=True, help="Don't compare the services' sandbox with the settings.")
def check(settings_file: Path | None, no_broker: bool, no_folders: bool, no_sandbox: bool) -> None:
    """Check the settings and the folders. Every problem is printed; exit code 2 if one prevents a start."""
    file, settings = read_settings(settings_file)
    answer = None if no_broker else ping_broker(settings)
    note = "" if answer is None else _describe_broker(settings, answer)
    findings = [
        *preflight.find_problems(settings, folders=not no_folders),
        *find_notes(settings, folders=not no_folders),
        *([] if no_sandbox else sandbox.find_missing_roots(settings, system_paths(), file)),
        *([] if no_sandbox else notify_sandbox.find_outdated(settings, system_paths(), file)),
        *(_check_server(file, settings) if answer else []),
        *find_notify_problems(settings),
        *(_check_tasks(settings) if answer else []),
        *_check_stage(settings),
    ]
    if any(finding.blocks for finding in findings):
        raise SettingsError(findings)
    echo(f"{file}: ok")
    for name, inbox in settings.inbox.items():
        echo(f"inbox {name}: ok ({inbox.root}, handler {inbox.handled_by})")
    for text in (*(f"note: {finding}" for finding in findings), note):
        if text:
            echo(text)


def _check_server(file: Path, settings: Settings) -> list[Finding]:
    """Return what is wrong with a Redis that answers, and another installation that conflicts with this one."""
    found = list(find_open_doors(settings))
    try:
        with make_client(settings) as client:
            found += find_server_problems(client, settings)[len(found) :]
            if conflict := find_conflict(client, describe_installation(settings, file)):
                found.append(Finding("redis.namespace", conflict, NAMESPACE_REMEDY))
    except BrokerUnavailable as error:
        remedy = "give the user the rights that `inboxd redis-acl` prints, and the server room for what it is to keep"
        found.append(Finding(f"redis.url, {without_password(broker_url(settings))}", str(error), remedy))
    return found


def _check_stage(settings: Settings) -> list[Finding]:
    """Return why the store of [stage] can't be used, if it can't: a small file is written, read and removed."""
    if not settings.stage.url or any(find_stage_problems(settings.stage)):
        return []
    store, faults = (
        Store(settings.stage, settings.redis.namespace),
        [f"{settings.stage.url}: no answer within {STAGE_SECONDS:g} s"],
    )

    def probe() -> None:
        try:
            store.probe(settings.host)
            faults.clear()
        except StageUnavailable as error:
            faults[:] = [str(error)]

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(STAGE_SECONDS)
    remedy = "correct the URL, its options or the store; until then workers that see the folders take large files"
    return [Finding("stage.url", fault, remedy, blocks=False) for fault in faults]


def _check_tasks(settings: Settings) -> list[Finding]:
    """Return what keeps the workers of other Celery apps from taking files, if an inbox has a task of theirs."""
    inboxes = [inbox for inbox in settings.inbox.values() if inbox.task]
    if not inboxes:
        return []
    from inboxd.messaging.other_app.workers import find_worker_problems  # noqa: PLC0415 - importing Celery takes half a second

    try:
        return [finding for inbox in inboxes for finding in find_worker_problems(settings, inbox)]
    except BrokerUnavailable:  # found by _check_server
        return []


def _describe_broker(settings: Settings, answer: PingResult) -> str:
    """Return a sentence that says whether Redis answers: a note, no problem, since Redis may be started later."""
    url = broker_url(settings)
    hint = " (`inboxd up` starts a server there)" if parse_local_address(url) else ""
    state = "answers" if answer else f"does not answer{hint}: {answer.error}"
    return f"note: the broker at {without_password(url)} {state}"
