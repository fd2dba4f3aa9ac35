"""A stand with the page for each test, and one browser for all."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from support.free_port import free_port
from support.live.stand import Stand
from support.live.web_stand import WebStand, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield Debian's Chromium."""
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page in a new browser context, which fails the test if the console has an error, such as a refused script."""
    with browser.new_context(locale="en-GB") as context:
        opened = context.new_page()
        errors: list[str] = []
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
        assert [error for error in errors if "the server responded with a status of 4" not in error] == []


@pytest.fixture
def web_stand(make_stand: Callable[..., Stand], tmp_path: Path) -> Callable[..., WebStand]:
    """Return a function that starts a stand with the page; its arguments are keys of [web]."""

    def start(**keys: object) -> WebStand:
        port = free_port()
        folder = tmp_path / "stand0"  # as make_stand names it
        logs = [str(folder / f"{name}.log") for name in ("watcher", "worker", "beat")]
        web = {"listen": f"127.0.0.1:{port}", **keys}
        stand = make_stand({"drop": {"retries": 0}, "mail": {"retries": 0}}, web=web, log={"format": "json", "files": logs})
        return WebStand(stand, port)

    return start
