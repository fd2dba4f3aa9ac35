"""Write and remove inboxd's unit files, drop-ins, and sysusers and tmpfiles configurations."""

import os
from collections.abc import Mapping
from pathlib import Path

from inboxd.broker.connection import uses_embedded_server
from inboxd.config.settings import Settings
from inboxd.console.systemd import notify_sandbox, sandbox
from inboxd.console.systemd.install_paths import (
    BEAT_SERVICE,
    SANDBOXED_SERVICES,
    SERVER_SERVICE,
    SERVICES,
    TARGET,
    TEMPLATE_PREFIX,
    WEB_SERVICE,
    InstallPaths,
    templates,
)

PUBLIC_MODE = 0o644


def write_file(path: Path, text: str, mode: int = PUBLIC_MODE) -> bool:
    """Replace a file atomically; return False, without a write, if it already has this text."""
    raw = text.encode("utf-8", "surrogateescape")
    if path.is_file() and path.read_bytes() == raw:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)  # regardless of the umask
        file.write(raw)
    temporary.replace(path)
    return True


def unit_files(settings: Settings, places: InstallPaths, prefix: Path) -> dict[Path, str]:
    """Return the text, by path, of all files that systemd reads: units, drop-ins, sysusers, tmpfiles."""
    source = templates() / "user" if places.user else templates()
    own_server = [SERVER_SERVICE] if uses_embedded_server(settings) else []
    texts = {places.units / unit: _render_unit(source / unit, prefix) for unit in (TARGET, *own_server, *SERVICES, WEB_SERVICE)}
    texts |= drop_in_files(settings, places)
    if places.sysusers and places.tmpfiles:
        texts |= account_files(places)
    return texts


def account_files(places: InstallPaths) -> dict[Path, str]:
    """Return the text, by path, of the sysusers and tmpfiles configurations."""
    assert places.sysusers
    assert places.tmpfiles
    template_names = {places.sysusers: "sysusers.conf", places.tmpfiles: "tmpfiles.conf"}
    return {path: (templates() / name).read_text("utf-8") for path, name in template_names.items()}


def drop_in_files(settings: Settings, places: InstallPaths) -> dict[Path, str]:
    """Return the text, by path, of the drop-ins that are generated from the settings."""
    texts = {places.drop_in(service): sandbox.render_drop_in(settings, places, service) for service in SANDBOXED_SERVICES}
    return texts if places.user else {**texts, places.drop_in(BEAT_SERVICE): notify_sandbox.render_drop_in(settings, places)}


def write_all(texts: Mapping[Path, str]) -> list[Path]:
    """Write files given as path -> text; return the paths whose text changed."""
    return [path for path, text in texts.items() if write_file(path, text)]


def remove_all(places: InstallPaths) -> None:
    """Remove all files that ``unit_files`` returns, whatever the settings, and the drop-ins' folders if they are empty."""
    drop_ins = [places.drop_in(service) for service in (*SANDBOXED_SERVICES, BEAT_SERVICE)]
    account_paths = [path for path in (places.sysusers, places.tmpfiles) if path]
    units = [places.units / unit for unit in (TARGET, SERVER_SERVICE, *SERVICES, WEB_SERVICE)]
    for path in (*units, *drop_ins, *account_paths):
        path.unlink(missing_ok=True)
    for path in drop_ins:
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _render_unit(template: Path, prefix: Path) -> str:
    return template.read_text("utf-8").replace(str(TEMPLATE_PREFIX), str(prefix).replace("%", "%%"))
