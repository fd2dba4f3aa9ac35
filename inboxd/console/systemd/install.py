"""Install, synchronize, roll back, uninstall and purge the services. Each step is idempotent."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from inboxd.broker.connection import uses_embedded_server
from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.console.systemd import accounts, checks, files, pages, releases, sandbox
from inboxd.console.systemd.install_paths import (
    BEAT_SERVICE,
    FOLDER_SERVICES,
    RELOAD_ORDER,
    SERVER_SERVICE,
    InstallPaths,
    prefix,
    templates,
)
from inboxd.console.systemd.manager import Systemctl
from inboxd.errors import Finding, SettingsError
from inboxd.logs.text import escape
from inboxd.spool import layout

Print = Callable[[str], object]


def install(places: InstallPaths, manager: Systemctl, print_line: Print) -> None:
    """Install, repair or upgrade. Raises SettingsError; if the restart fails, the previous release is restored."""
    _require_systemd(places, manager)
    if not places.user:
        accounts.create_accounts(places)
    _write_first_settings(places, print_line)
    settings = checks.load_service_settings(places)
    for message in accounts.create_inboxes(settings, places):
        print_line(message)
    checks.check_as_service_user(settings, places)
    previous = _switch_to_this_release()
    written = files.write_all(files.unit_files(settings, places, prefix()))
    _remove_unused_server(settings, places, manager, print_line)
    print_line(f"wrote {len(written)} unit files to {places.units}" if written else "the unit files are up to date")
    manager.daemon_reload()
    manager.verify(places.units)
    manager.enable()
    try:
        manager.restart()
    except SettingsError as error:
        raise _roll_back_failed_start(error, manager, previous) from None
    if releases.running_release():
        releases.remove_old_releases(prefix())
    print_line(f"linked {pages.link_pages(places, prefix())} man pages and completion scripts into {places.share}")
    print_line(f"inboxd runs from {prefix()}, with {places.settings}")


def sync(places: InstallPaths, manager: Systemctl, print_line: Print) -> None:
    """Adapt folders and sandbox to the settings, and apply both to the running services. Raises SettingsError."""
    _require_systemd(places, manager)
    settings = checks.load_service_settings(places)
    for message in accounts.create_inboxes(settings, places):
        print_line(message)
    checks.check_as_service_user(settings, places)
    if written := files.write_all(files.drop_in_files(settings, places)):
        print_line(f"changed the sandbox: {', '.join(map(str, written))}")
    if written or any(manager.show(service, "NeedDaemonReload") == "yes" for service in (*FOLDER_SERVICES, BEAT_SERVICE)):
        manager.daemon_reload()
    if places.drop_in(BEAT_SERVICE) in written:
        written.remove(places.drop_in(BEAT_SERVICE))
        if manager.restart_if_active(BEAT_SERVICE):
            print_line(f"restarted {BEAT_SERVICE}, which notifies people")
    # compared with what runs: an earlier sync may have written the files, and failed then
    missing = {
        service: sandbox.missing_folders(settings, service, running)
        for service in FOLDER_SERVICES
        if not places.user and (running := manager.running_sandbox(service))
    }
    if not written and not any(folders is None or folders for folders in missing.values()):
        print_line("the sandbox of the services matches the settings; for other changes to take effect, reload the services")
    elif added := _add_roots(missing, manager):
        print_line(f"added to the running services, which reloaded the settings: {added}")
    else:
        restarted = manager.restart_active()
        print_line(f"restarted {', '.join(restarted)}" if restarted else "no service runs, so none was restarted")


def _add_roots(new_roots: Mapping[str, list[str] | None], manager: Systemctl) -> str:
    """Add new roots to the running services without a restart; return them as text, or "" if a restart is necessary."""
    active = manager.active()
    if not active or any(roots is None for roots in new_roots.values()):
        return ""
    try:
        for service, roots in new_roots.items():
            for root in (roots or ()) if service in active else ():
                manager.bind_root(service, root)
        manager.reload_services([service for service in RELOAD_ORDER if service in active])
        manager.restart_page()  # it reads the settings at its start
    except SettingsError:
        return ""
    return ", ".join(sorted({escape(root) for roots in new_roots.values() for root in roots or ()}))


def roll_back(places: InstallPaths, manager: Systemctl, print_line: Print) -> None:
    """Switch back to the previous release. Raises SettingsError if there is none."""
    _require_systemd(places, manager)
    link = prefix()
    previous = releases.previous_release(link) if releases.running_release() else None
    if previous is None:
        raise SettingsError([Finding(str(link), "no earlier release is installed", "install the version you want")])
    releases.switch_to(link, previous)
    manager.restart()
    print_line(f"inboxd runs from {previous}")


def uninstall(places: InstallPaths, manager: Systemctl, print_line: Print) -> None:
    """Stop and remove the services; keep settings, state, accounts and inboxes. Raises SettingsError."""
    _require_rights(places)
    manager.stop()
    files.remove_all(places)
    pages.remove_pages(places, prefix())
    manager.daemon_reload()
    print_line(f"removed the services; {places.config}, {places.state} and the inboxes were not changed")


def data_folders(places: InstallPaths) -> list[Path]:
    """Return the four folders of each inbox, which ``purge`` deletes; [] if the settings can't be read."""
    try:
        settings = load_settings(places.settings)
    except SettingsError:
        return []
    return [Path(inbox.root) / folder.decode() for inbox in settings.inbox.values() for folder in layout.FOLDER_NAMES]


def purge(places: InstallPaths, manager: Systemctl, print_line: Print) -> None:
    """Uninstall, and delete settings, state, accounts, and all files in the inboxes. Raises SettingsError."""
    folders = data_folders(places)
    uninstall(places, manager, lambda _line: None)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for root in {folder.parent for folder in folders}:
        if root.is_dir() and not any(root.iterdir()):
            root.rmdir()
    for folder in (places.config, places.state):
        shutil.rmtree(folder, ignore_errors=True)
    if not places.user:
        accounts.remove_accounts()
    if releases.running_release():
        shutil.rmtree(prefix().parent)
    print_line("removed inboxd, its settings, its state and all files in its inboxes")


def _require_rights(places: InstallPaths) -> None:
    if not places.user and os.geteuid() != 0:
        raise SettingsError([Finding("inboxd systemd", "needs root", "use sudo, or --user for services of the current user")])


def _require_systemd(places: InstallPaths, manager: Systemctl) -> None:
    _require_rights(places)
    findings = list(checks.check_interpreter(places))
    if not manager.is_available():
        findings.append(
            Finding("/run/systemd/system", "systemd does not run on this machine", "use `inboxd up` or another service manager")
        )
    if findings:
        raise SettingsError(findings)


def _write_first_settings(places: InstallPaths, print_line: Print) -> None:
    """Write the settings of a first installation; existing settings are not changed."""
    if not places.settings.exists():
        root = Path.home() / "inboxd" if places.user else Path("/srv/inboxd/drop")
        text = (templates() / "first-settings.toml").read_text("utf-8")
        files.write_file(places.settings, text.replace("STATE", str(places.state)).replace("ROOT", str(root)), 0o640)
        print_line(f"wrote first settings to {places.settings}: one inbox, {root}")
    places.state.mkdir(parents=True, exist_ok=True, mode=0o750)
    if not places.redis_url.exists():
        files.write_file(places.redis_url, "", 0o600)
    if not places.user:
        accounts.create_accounts(places)  # again: sets the owner of the files just written


def _remove_unused_server(settings: Settings, places: InstallPaths, manager: Systemctl, print_line: Print) -> None:
    """Remove the server of its own, but not its data, once the settings name another one."""
    unit = places.units / SERVER_SERVICE
    if unit.exists() and not uses_embedded_server(settings):
        manager.remove(SERVER_SERVICE, unit)
        print_line(f"removed {SERVER_SERVICE}, because redis.url names a server; its data stay in {places.state / 'valkey'}")


def _switch_to_this_release() -> Path | None:
    """Make the running release the current one; return the previous one, None if there is none."""
    running = releases.running_release()
    if running is None:
        return None
    previous = releases.current_release(prefix())
    releases.switch_to(prefix(), running)
    return previous


def _roll_back_failed_start(error: SettingsError, manager: Systemctl, previous: Path | None) -> SettingsError:
    """Switch back to the previous release, if any; return the error with the last log lines of the failed services."""
    failed = [service for service in manager.services if manager.show(service, "ActiveState") != "active"]
    findings = [Finding(service, manager.last_log_lines(service), "correct the cause, and install again") for service in failed]
    if previous is not None and previous != releases.running_release():
        releases.switch_to(prefix(), previous)
        manager.restart()
        findings.append(Finding(str(prefix()), f"switched back to the previous release {previous}", "no files were lost"))
    return SettingsError([*error.findings, *findings])


def describe_states(settings: Settings | None, places: InstallPaths, manager: Systemctl) -> list[tuple[str, str]]:
    """Return pairs of subject and state: one for each service, and one for the sandbox."""
    states = []
    for service in places.services:
        active, since = manager.show(service, "ActiveState"), manager.show(service, "ActiveEnterTimestamp")
        restarts = manager.show(service, "NRestarts")
        states.append((service, f"{active} since {since or 'never'}, {restarts} restarts"))
    if settings is not None:
        findings = sandbox.find_missing_roots(settings, places, places.settings)
        states.append(("sandbox", "; ".join(finding.problem for finding in findings) or "matches the settings"))
    return states
