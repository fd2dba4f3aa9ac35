"""Create and remove the services' user, the droppers' group and the inboxes' folders."""

import grp
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.console.systemd.files import account_files, write_all
from inboxd.console.systemd.install_paths import ACCOUNT, DROP_GROUP, InstallPaths, templates
from inboxd.console.systemd.manager import run
from inboxd.errors import Finding, SettingsError
from inboxd.service import preflight
from inboxd.spool import layout


def create_accounts(places: InstallPaths) -> None:
    """Create the user, the group, and the configuration and state folders. Raises SettingsError."""
    write_all(account_files(places))
    run(["systemd-sysusers", str(places.sysusers)])
    run(["systemd-tmpfiles", "--create", str(places.tmpfiles)])


def create_inboxes(settings: Settings, places: InstallPaths) -> Iterator[str]:
    """Create missing inboxes, and yield a message for each; permissions of existing ones stay. Raises SettingsError."""
    if places.user:
        preflight.create_folders(settings)
        return
    template = (templates() / "inbox.tmpfiles").read_text("utf-8")
    for name, inbox in settings.inbox.items():
        if any((Path(inbox.root) / folder.decode()).exists() for folder in layout.FOLDER_NAMES):
            continue
        _require_safe_path(name, Path(inbox.root))
        Path(inbox.root).parent.mkdir(parents=True, exist_ok=True)
        run(["systemd-tmpfiles", "--create", "-"], input_text=template.replace("ROOT", str(inbox.root).replace("%", "%%")))
        yield f"inbox {name}: created {inbox.root}; members of the group {DROP_GROUP} may drop files into its inbox/"


def _require_safe_path(name: str, root: Path) -> None:
    """Raise SettingsError if another user could replace a folder of the path while root writes there, or if one is a link."""
    trusted_uids = (0, pwd.getpwnam(ACCOUNT).pw_uid)
    for folder in (root, *root.parents):
        try:
            status = folder.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        why = ""
        if status.st_uid not in trusted_uids:
            why = f"another user owns {folder}"
        elif not stat.S_ISDIR(status.st_mode):
            why = f"{folder} is a link or a file"
        elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
            why = f"others can write to {folder}"
        if why:
            problem = f"{why}, so that it is not safe for root to create folders there"
            remedy = f"create {root} with inbox/, claimed/, done/ and failed/ by hand, owned by {ACCOUNT} and reachable for it"
            raise SettingsError([Finding(f"inbox.{name}.root", problem, remedy)])


def remove_accounts() -> None:
    """Remove the user and the group, if they exist. Raises SettingsError."""
    for name, table, command in ((ACCOUNT, pwd.getpwnam, "userdel"), (DROP_GROUP, grp.getgrnam, "groupdel")):
        try:
            table(name)
        except KeyError:
            continue
        run([command, name])


def group_ids(name: str) -> tuple[int, list[int]]:
    """Return a user's primary group id, and the ids of all its groups."""
    primary = pwd.getpwnam(name).pw_gid
    return primary, [primary, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)]
