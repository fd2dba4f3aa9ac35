"""Writing what is ours: units, drop-ins and the like, only where they differ, whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from inboxd.config.settings import Settings
from inboxd.console.systemd import sandbox
from inboxd.console.systemd.places import FOLDER_SERVICES, SERVICES, TARGET, TEMPLATE_PREFIX, InstallPaths, templates

READABLE = 0o644


def write_file(path: Path, text: str, mode: int = READABLE) -> bool:
    """Write a file that others read meanwhile; returns whether it was another before."""
    raw = text.encode("utf-8", "surrogateescape")
    if path.is_file() and path.read_bytes() == raw:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(raw)
    fresh.replace(path)
    return True


def unit_files(settings: Settings, places: InstallPaths, prefix: Path) -> dict[Path, str]:
    """Return path -> text of every file that systemd is to read."""
    source = templates() / "user" if places.user else templates()
    texts = {places.units / unit: _render_unit(source / unit, prefix) for unit in (TARGET, *SERVICES)}
    texts |= drop_in_files(settings, places)
    if places.sysusers and places.tmpfiles:
        texts |= account_files(places)
    return texts


def account_files(places: InstallPaths) -> dict[Path, str]:
    """Return path -> text of what makes the accounts and the folders."""
    assert places.sysusers
    assert places.tmpfiles
    shipped = {places.sysusers: "sysusers.conf", places.tmpfiles: "tmpfiles.conf"}
    return {path: (templates() / name).read_text("utf-8") for path, name in shipped.items()}


def drop_in_files(settings: Settings, places: InstallPaths) -> dict[Path, str]:
    """Return path -> text of what is written from the settings."""
    return {places.drop_in(service): sandbox.render_drop_in(settings, places) for service in FOLDER_SERVICES}


def write_all(texts: Mapping[Path, str]) -> list[Path]:
    """Write them; returns those that differed."""
    return [path for path, text in texts.items() if write_file(path, text)]


def remove_all(places: InstallPaths) -> None:
    """Remove what ``units`` names, wherever the settings lead now, and the drop-ins' folders if nothing else is in them."""
    drop_in = [places.drop_in(service) for service in FOLDER_SERVICES]
    others = [path for path in (places.sysusers, places.tmpfiles) if path]
    for path in (*(places.units / unit for unit in (TARGET, *SERVICES)), *drop_in, *others):
        path.unlink(missing_ok=True)
    for path in drop_in:
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _render_unit(template: Path, prefix: Path) -> str:
    return template.read_text("utf-8").replace(str(TEMPLATE_PREFIX), str(prefix).replace("%", "%%"))
