"""`inboxd server`: run inboxd's own server in the foreground, as its systemd service does."""

import os
from pathlib import Path

import click

from inboxd.broker.connection import embedded_socket_path, uses_embedded_server
from inboxd.config.strict_modes import require_trusted
from inboxd.console.options import read_settings, settings_option
from inboxd.console.up.embedded_server import EmbeddedServer, find_binary
from inboxd.console.up.server_address import ServerAddress
from inboxd.console.up.state_dir import make_private_folder
from inboxd.errors import Finding, SettingsError


@click.command()
@settings_option
def server(settings_file: Path | None) -> None:
    """Run a Valkey or Redis server on a unix socket in state_dir, for the user and the group of inboxd.

    It is for installations whose settings have no redis.url. The service inboxd-valkey runs this command; `inboxd up` starts a
    server by itself.
    """
    file, settings = read_settings(settings_file)
    if not uses_embedded_server(settings):
        raise SettingsError(
            [Finding(f"redis.url ({file})", "names a server, so none is started", "empty it, or use that server")]
        )
    require_trusted(Path(settings.state_dir) / "valkey")
    folder, socket = Path(settings.state_dir) / "valkey", embedded_socket_path(settings)
    for path in (folder, Path(socket).parent):
        make_private_folder(path, 0o750)
    os.umask(0o077)  # for the data; the socket gets its own mode
    binary = find_binary(prefer_installed=True)
    EmbeddedServer(binary, folder, ServerAddress(socket, is_for_group=True)).execute()
