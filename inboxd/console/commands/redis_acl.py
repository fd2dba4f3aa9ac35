"""`inboxd redis-acl`: print a user for Redis that has the rights that inboxd needs, and no others."""

import secrets
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import click

from inboxd.broker.acl import acl_rules
from inboxd.console.options import read_settings, settings_option
from inboxd.console.output import echo

USER = "inboxd"


@click.command("redis-acl")
@settings_option
def redis_acl(settings_file: Path | None) -> None:
    """Print a line for the server's ACL file: a user with the least rights that inboxd needs.

    The user's name and password are those of redis.url. If it has no password, a new one is made, and the URL to use is printed
    to stderr. The rights are for the keys of redis.namespace; set one if other programs use the same database. Load the line
    with `ACL SETUSER` or from the file that the server's setting `aclfile` names, then `ACL LOAD`.
    """
    _, settings = read_settings(settings_file)
    parts = urlsplit(settings.redis.url or "redis://localhost:6379/0")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    user = unquote(parts.username or query.get("username", "")) or USER
    password = unquote(parts.password or query.get("password", ""))
    path_db = parts.path.strip("/") if parts.scheme != "unix" else ""
    db = int(query.get("db") or path_db or 0)
    echo(f"user {user} {' '.join(acl_rules(settings.redis.namespace, password or (new := secrets.token_urlsafe(24)), db))}")
    if not password:
        address = f"{parts.hostname or ''}:{parts.port or 6379}" if parts.scheme != "unix" else ""
        echo(f"redis.url = {parts.scheme}://{quote(user)}:{new}@{address}{parts.path}", err=True)
