"""Installing the services, following the settings, going back, taking away. Every step may be repeated."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.console.systemd import accounts, checks, files, releases, sandbox
from inboxd.console.systemd.manager import Systemctl
from inboxd.console.systemd.places import FOLDER_SERVICES, RELOAD_ORDER, SERVICES, InstallPaths, prefix, templates
from inboxd.errors import Finding, SettingsError
from inboxd.logs.text import escape
from inboxd.spool import layout

Say = Callable[[str], object]


def install(places: InstallPaths, manager: Systemctl, say: Say) -> None:
    """Install, repair or upgrade. Raises SettingsError; what ran before runs on, unless the new services fail to start."""
    _require_systemd(places, manager)
    if not places.user:
        accounts.create_accounts(places)
    _write_first_settings(places, say)
    settings = checks.load_service_settings(places)
    for made in accounts.create_inboxes(settings, places):
        say(made)
    written = files.write_all(files.drop_in_files(settings, places))  # first: the check compares them
    checks.check_as_service_user(settings, places)
    before = _switch_to_this_release()
    written += files.write_all(files.unit_files(settings, places, prefix()))
    say(f"{len(written)} unit files written to {places.units}" if written else "the unit files are as they should be")
    manager.daemon_reload()
    manager.verify(places.units)
    manager.enable()
    try:
        manager.restart()
    except SettingsError as error:
        raise _roll_back_failed_start(error, manager, before) from None
    if releases.running_release():
        releases.remove_old_releases(prefix())
    say(f"inboxd runs from {prefix()}, with {places.settings}")


def sync(places: InstallPaths, manager: Systemctl, say: Say) -> None:
    """Bring folders and sandbox in line with the settings, and let what runs have both. Raises SettingsError."""
    _require_systemd(places, manager)
    settings = checks.load_service_settings(places)
    for made in accounts.create_inboxes(settings, places):
        say(made)
    texts = files.drop_in_files(settings, places)
    before = {path: path.read_text("utf-8", "surrogateescape") if path.exists() else "" for path in texts}
    written = files.write_all(texts)  # first: the check compares them
    checks.check_as_service_user(settings, places)
    if not written:
        say("the services' sandbox fits the settings")
        return
    manager.daemon_reload()
    say(f"the sandbox was changed: {', '.join(map(str, written))}")
    new = {
        service: sandbox.added_roots(before[places.drop_in(service)], texts[places.drop_in(service)])
        for service in FOLDER_SERVICES
    }
    if let_in := _add_roots(new, manager):
        say(f"let into running services, which have taken up the settings: {let_in}")
        return
    restarted = manager.restart_active()
    say(f"started anew: {', '.join(restarted)}" if restarted else "nothing runs, so nothing was started anew")


def _add_roots(new: Mapping[str, list[str] | None], manager: Systemctl) -> str:
    """Let running services have new inboxes without a restart; returns their roots, "" where a restart is what does it."""
    active = manager.active()
    if not active or any(roots is None for roots in new.values()):
        return ""
    try:
        for service, roots in new.items():
            for root in (roots or ()) if service in active else ():
                manager.bind_root(service, root)
        manager.reload_services([service for service in RELOAD_ORDER if service in active])
    except SettingsError:
        return ""
    return ", ".join(sorted({escape(root) for roots in new.values() for root in roots or ()}))


def roll_back(places: InstallPaths, manager: Systemctl, say: Say) -> None:
    """Go back to the release before this one. Raises SettingsError when there is none."""
    _require_systemd(places, manager)
    link = prefix()
    before = releases.previous_release(link) if releases.running_release() else None
    if before is None:
        raise SettingsError([Finding(str(link), "there is no earlier release to go back to", "install the version you want")])
    releases.switch_to(link, before)
    manager.restart()
    say(f"inboxd runs from {before}")


def uninstall(places: InstallPaths, manager: Systemctl, say: Say) -> None:
    """Stop and remove the services. Settings, state, accounts and everybody's files stay. Raises SettingsError."""
    _require_rights(places)
    manager.stop()
    files.remove_all(places)
    manager.daemon_reload()
    say(f"the services are gone; {places.config}, {places.state} and the inboxes were left as they are")


def data_folders(places: InstallPaths) -> list[Path]:
    """Return the folders that ``purge`` deletes besides settings and state: those four of each inbox."""
    try:
        settings = load_settings(places.settings)
    except SettingsError:
        return []
    return [Path(inbox.root) / folder.decode() for inbox in settings.inbox.values() for folder in layout.FOLDER_NAMES]


def purge(places: InstallPaths, manager: Systemctl, say: Say) -> None:
    """Uninstall, and delete everything: files in the inboxes too. Raises SettingsError."""
    doomed = data_folders(places)
    uninstall(places, manager, lambda _line: None)
    for folder in doomed:
        shutil.rmtree(folder, ignore_errors=True)
    for root in {folder.parent for folder in doomed}:
        if root.is_dir() and not any(root.iterdir()):
            root.rmdir()
    for folder in (places.config, places.state):
        shutil.rmtree(folder, ignore_errors=True)
    if not places.user:
        accounts.remove_accounts()
    if releases.running_release():
        shutil.rmtree(prefix().parent)
    say("inboxd is gone, with its settings, its state and all files in its inboxes")


def _require_rights(places: InstallPaths) -> None:
    if not places.user and os.geteuid() != 0:
        raise SettingsError([Finding("installing", "needs root", "put sudo before it, or use --user for services of your own")])


def _require_systemd(places: InstallPaths, manager: Systemctl) -> None:
    _require_rights(places)
    findings = list(checks.check_interpreter(places))
    if not manager.is_available():
        findings.append(
            Finding("/run/systemd/system", "systemd does not run this machine", "use `inboxd up`, or your own service manager")
        )
    if findings:
        raise SettingsError(findings)


def _write_first_settings(places: InstallPaths, say: Say) -> None:
    """Write the settings of a first installation; those that are there are nobody's to change."""
    if not places.settings.exists():
        root = Path.home() / "inboxd" if places.user else Path("/srv/inboxd/drop")
        text = (templates() / "first-settings.toml").read_text("utf-8")
        files.write_file(places.settings, text.replace("STATE", str(places.state)).replace("ROOT", str(root)), 0o640)
        say(f"wrote first settings to {places.settings}: one inbox, {root}")
    places.state.mkdir(parents=True, exist_ok=True, mode=0o750)
    if not places.redis_url.exists():
        files.write_file(places.redis_url, "", 0o600)
    settings = load_settings(places.settings)
    if (
        not settings.redis.url
        and not places.redis_url.read_text("utf-8").strip()
        and (url := checks.find_local_redis(settings))
    ):
        files.write_file(places.redis_url, f"{url}\n", 0o600)
        say(f"a Redis answers at {url}: written to {places.redis_url}")
    if not places.user:
        accounts.create_accounts(places)  # once more: what was just written gets its owner


def _switch_to_this_release() -> Path | None:
    """Make this release the current one; returns the one before, to go back to."""
    ours = releases.running_release()
    if ours is None:
        return None
    before = releases.current_release(prefix())
    releases.switch_to(prefix(), ours)
    return before


def _roll_back_failed_start(error: SettingsError, manager: Systemctl, before: Path | None) -> SettingsError:
    """Go back to the release before, if there is one, and say what the services said."""
    failed = [service for service in SERVICES if manager.show(service, "ActiveState") != "active"]
    said = [Finding(service, manager.last_log_lines(service), "mend what it says, and install again") for service in failed]
    if before is not None and before != releases.running_release():
        releases.switch_to(prefix(), before)
        manager.restart()
        said.append(Finding(str(prefix()), f"the release before runs again: {before}", "nothing was lost"))
    return SettingsError([*error.findings, *said])


def describe_states(settings: Settings | None, places: InstallPaths, manager: Systemctl) -> list[tuple[str, str]]:
    """Return what to tell of the installation: one pair of subject and state for each service, and for the sandbox."""
    told = []
    for service in SERVICES:
        active, since = manager.show(service, "ActiveState"), manager.show(service, "ActiveEnterTimestamp")
        restarts = manager.show(service, "NRestarts")
        told.append((service, f"{active} since {since or 'never'}, {restarts} restarts"))
    if settings is not None:
        differ = list(sandbox.find_missing_roots(settings, places, places.settings))
        told.append(("sandbox", "; ".join(finding.problem for finding in differ) or "fits the settings"))
    return told
