"""The services' user, the droppers' group, and the folders that they need: made once, then left as they are."""

import grp
import pwd
from collections.abc import Iterator
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.console.systemd.files import account_files, write_all
from inboxd.console.systemd.manager import run
from inboxd.console.systemd.places import ACCOUNT, DROP_GROUP, InstallPaths, templates
from inboxd.errors import Finding, SettingsError
from inboxd.service import preflight
from inboxd.spool import layout


def create_accounts(places: InstallPaths) -> None:
    """Make the accounts and our own folders. Raises SettingsError."""
    write_all(account_files(places))
    run(["systemd-sysusers", str(places.sysusers)])
    run(["systemd-tmpfiles", "--create", str(places.tmpfiles)])


def create_inboxes(settings: Settings, places: InstallPaths) -> Iterator[str]:
    """Make the inboxes that are not there yet, and tell of each. One that is there keeps the permissions it was given."""
    if places.user:
        preflight.create_folders(settings)
        return
    template = (templates() / "inbox.tmpfiles").read_text("utf-8")
    for name, inbox in settings.inbox.items():
        if any((Path(inbox.root) / folder.decode()).exists() for folder in layout.FOLDER_NAMES):
            continue
        _require_safe_path(name, Path(inbox.root))
        Path(inbox.root).parent.mkdir(parents=True, exist_ok=True)
        run(["systemd-tmpfiles", "--create", "-"], given=template.replace("ROOT", str(inbox.root).replace("%", "%%")))
        yield f"inbox {name}: made {inbox.root}; members of the group {DROP_GROUP} may drop files into its inbox/"


def _require_safe_path(name: str, root: Path) -> None:
    """Raise SettingsError where a folder on the way is another user's: it could be swapped while root writes there."""
    ours = (0, pwd.getpwnam(ACCOUNT).pw_uid)
    for folder in (root, *root.parents):
        if folder.exists() and folder.stat().st_uid not in ours:
            problem = f"{folder} belongs to another user, so that root makes nothing in there"
            remedy = (
                f"make {root} and its inbox/, claimed/, done/ and failed/ by hand, owned by {ACCOUNT}, and let it pass through"
            )
            raise SettingsError([Finding(f"inbox.{name}.root", problem, remedy)])


def remove_accounts() -> None:
    """Remove the accounts. Raises SettingsError."""
    for name, table, command in ((ACCOUNT, pwd.getpwnam, "userdel"), (DROP_GROUP, grp.getgrnam, "groupdel")):
        try:
            table(name)
        except KeyError:
            continue
        run([command, name])


def group_ids(name: str) -> tuple[int, list[int]]:
    """Return a user's own group and all of its groups, as numbers."""
    own = pwd.getpwnam(name).pw_gid
    return own, [own, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)]
