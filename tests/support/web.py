"""The page of `inboxd web` without a server: a site over inboxes in a folder, and a client that has loaded a form's token."""

import re
from pathlib import Path
from urllib.parse import urlencode

from httpx2 import Response
from starlette.testclient import TestClient
from support.disk.spools import Spool

from inboxd.config.loading import load_settings
from inboxd.console.web.app import make_app
from inboxd.console.web.server import make_site
from inboxd.console.web.site import Site
from inboxd.service import preflight

TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')
NO_REDIS = 'redis = { url = "redis://127.0.0.1:1", connect_timeout_seconds = 0.2 }\n'


class Page:
    """A site with two inboxes, and one browser. ``web`` are lines of the table [web]."""

    def __init__(self, folder: Path, web: str = "", base_url: str = "http://localhost:8080") -> None:
        self.file = folder / "settings.toml"
        self.file.write_text(f'{NO_REDIS}[web]\n{web}\n[inbox.one]\nroot = "one"\n[inbox.two]\nroot = "two"\n')
        settings = load_settings(self.file)
        preflight.create_folders(settings)
        self.one, self.two = Spool(folder / "one"), Spool(folder / "two")
        self.site: Site = make_site(settings, self.file)
        self.base_url = base_url
        self.browser = self.make_browser()

    def make_browser(self, client: tuple[str, int] = ("127.0.0.1", 50000)) -> TestClient:
        """Return another browser, which connects from an address."""
        return TestClient(make_app(self.site), base_url=self.base_url, client=client, follow_redirects=False)

    def read(self) -> None:
        """Read the failed files, as the index's thread does."""
        self.site.index.read_all()

    def token(self, address: str = "/failed", browser: TestClient | None = None) -> str:
        """Return the token of the first form of a page."""
        found = TOKEN.search((browser or self.browser).get(address).text)
        assert found, f"{address} has no form with a token"
        return found[1]

    def post(self, address: str, **values: str) -> Response:
        """Send a form."""
        return send_form(self.browser, address, **values)


def send_form(browser: TestClient, address: str, **values: str) -> Response:
    """Send a form with a browser."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return browser.post(address, content=urlencode(values), headers=headers)
