"""`inboxd web`: serve a page that shows inboxes and failed files."""

from importlib.util import find_spec
from pathlib import Path

import click

from inboxd.console.options import read_settings, settings_option
from inboxd.console.output import echo
from inboxd.console.web import passwords
from inboxd.errors import Finding, SettingsError

PACKAGES = ("jinja2", "starlette", "uvicorn")


@click.command()
@settings_option
@click.option("--set-password", is_flag=True, help="Ask for a password, write its hash to web.password_file, and exit.")
def web(settings_file: Path | None, set_password: bool) -> None:
    """Serve a page at web.listen: inboxes, failed files and their retry, a file's timeline. Needs inboxd[web].

    Without web.password_file and web.trusted_header everybody who can connect may use it, and only this host can connect.
    """
    file, settings = read_settings(settings_file, needs_redis=not set_password)
    if set_password:
        _set_password(settings.web.password_file, file)
        return
    if missing := [package for package in PACKAGES if find_spec(package) is None]:
        problem = f"the packages of the page are not installed: {', '.join(missing)}"
        raise SettingsError([Finding("inboxd web", problem, "pip install 'inboxd[web]'")])
    from inboxd.console.web.server import serve  # noqa: PLC0415 - its packages are optional

    serve(settings, file)


def _set_password(password_file: str, file: Path) -> None:
    if not password_file:
        remedy = f'add to {file}: [web] password_file = "web-password"'
        raise SettingsError([Finding("web.password_file", "is not set, so there is no file to write", remedy)])
    password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if len(password) < passwords.CHARS_MIN:
        remedy = f"choose one with at least {passwords.CHARS_MIN} characters"
        raise SettingsError([Finding("password", "is too short", remedy)])
    passwords.write_hash(Path(password_file), passwords.hash_password(password), file)
    echo(f"wrote the password's hash to {password_file}; sessions with another password have ended")
