"""Generate beat's drop-in from the settings: what it needs to notify people, and nothing if nobody is to be notified."""

from collections.abc import Iterator
from pathlib import Path, PurePath

from inboxd.config.settings import Settings
from inboxd.console.systemd.install_paths import BEAT_SERVICE, InstallPaths
from inboxd.errors import Finding
from inboxd.logs.text import escape
from inboxd.notify.addresses import CREDENTIAL_NAME, is_configured
from inboxd.notify.state import FOLDER

_HIDDEN = ("/srv", "/mnt", "/media", "/boot", "/efi", "/etc/ssh", "/var/backups", "/var/spool/cron")
"""What beat's unit hides; a test compares the two."""
_HOMES = ("/home", "/root", "/run/user")


def render_drop_in(settings: Settings, places: InstallPaths) -> str:
    """Return the text of beat's drop-in 50-inboxes.conf."""
    lines = [f"# Written by `inboxd systemd sync` from {escape(bytes(places.settings))}. The next sync overwrites changes."]
    if not is_configured(settings, {}):
        return "\n".join([*lines, "# Nobody is to be notified: beat needs no inboxes, no network and no state.", ""])
    roots = sorted({str(inbox.root) for inbox in settings.inbox.values()})
    lines += ["[Unit]", "# Beat starts after the mounts of the inboxes, and stops with them."]
    lines += [f'RequiresMountsFor="{_escape(root)}"' for root in roots]
    lines += ["[Service]", *_show_roots(roots), *_keep_state(settings, places)]
    if settings.notify.urls_file:
        lines += ["# Root reads the file with the URLs; no other process of this user can. Beat starts without the file, too."]
        lines += [
            f"LoadCredential={CREDENTIAL_NAME}:{_escape(settings.notify.urls_file)}",
            f"SetCredential={CREDENTIAL_NAME}:\\n",
        ]
    lines += ["# Mail servers and chats. To allow less: docs/notifications.md.", "IPAddressAllow=any"]
    return "\n".join([*lines, ""])


def find_outdated(settings: Settings, places: InstallPaths, file: Path) -> Iterator[Finding]:
    """Yield a finding if the installed beat has another drop-in; none if ``file`` is not the services' one."""
    if places.user or file != places.settings or not (places.units / BEAT_SERVICE).exists():
        return
    path = places.drop_in(BEAT_SERVICE)
    try:
        text = path.read_text("utf-8", "surrogateescape")
    except OSError:
        text = ""
    if is_configured(settings, {}) and text != render_drop_in(settings, places):
        yield Finding(
            str(path), "does not fit the settings: beat can't notify people", "sudo inboxd systemd sync", blocks=False
        )


def _show_roots(roots: list[str]) -> Iterator[str]:
    """Yield the lines that make the inboxes visible, and nothing beside them; they stay read-only."""
    opened = [top for top in _HIDDEN if any(_is_below(root, top) for root in roots)]
    yield "# Of the folders that the unit hides, only the inboxes are visible, and they are read-only."
    yield "InaccessiblePaths="
    yield "InaccessiblePaths=" + " ".join(f"-{top}" for top in _HIDDEN if top not in opened and top not in roots)
    yield from (f"TemporaryFileSystem={top}:ro" for top in opened)
    if any(_is_below(root, home) for root in roots for home in _HOMES):
        yield "ProtectHome=tmpfs"
    shown = (*opened, *_HOMES)
    yield from (f'BindReadOnlyPaths="-{_escape(root)}"' for root in roots if any(_is_below(root, top) for top in shown))


def _keep_state(settings: Settings, places: InstallPaths) -> Iterator[str]:
    yield "# What was told to whom."
    if settings.state_dir == places.state:
        yield f"StateDirectory=inboxd/{FOLDER}"
        yield "StateDirectoryMode=0700"
    else:
        yield f'ReadWritePaths="-{_escape(str(settings.state_dir / FOLDER))}"'


def _is_below(path: str, folder: str) -> bool:
    return PurePath(folder) in PurePath(path).parents


def _escape(path: str) -> str:
    return path.replace("%", "%%")
