"""`inboxd redis-acl`: print a user for Redis that has the rights that inboxd needs, and no others."""

import re
import secrets
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

import click

from inboxd.broker.acl import acl_rules
from inboxd.console.options import read_settings, settings_option
from inboxd.console.output import echo
from inboxd.errors import Finding, SettingsError

USER = "inboxd"


@click.command("redis-acl")
@settings_option
def redis_acl(settings_file: Path | None) -> None:
    """Print a line for the server's ACL file: a user with the least rights that inboxd needs.

    The user's name and password are those of redis.url. If it has no password, a new one is made, and the URL to use is printed
    to stderr. The rights are for the keys of redis.namespace; set one if other programs use the same database. Load the line
    with `ACL SETUSER` or from the file that the server's setting `aclfile` names, then `ACL LOAD`.
    """
    file, settings = read_settings(settings_file)
    url = settings.redis.url or "redis://localhost:6379/0"
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    user = unquote(parts.username or query.get("username", "")) or USER
    password = unquote(parts.password or query.get("password", "")) or secrets.token_urlsafe(24)
    database = query.get("db") or (parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
    if not re.fullmatch(r"[^\s\x00-\x1f]+", user) or not (database.isascii() and database.isdecimal()):
        remedy = "name a user without spaces, and the database by its number"
        raise SettingsError(
            [Finding(f"redis.url ({file})", f"the user {user!r} or the database {database!r} is invalid", remedy)]
        )
    queues = {inbox.queue for inbox in settings.inbox.values() if inbox.task}
    rules = acl_rules(settings.redis.namespace, password, int(database), queues)
    echo(f"user {user} {' '.join(rules)}")
    if not (parts.password or "password" in query):
        scheme, _, rest = url.partition("://")
        rest = rest[rest.find("@") + 1 :] if parts.username else rest
        echo(f"redis.url = {scheme}://{quote(user, safe='')}:{password}@{rest}", err=True)
