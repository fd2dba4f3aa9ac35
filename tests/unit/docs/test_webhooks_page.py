"""The blocks of docs/webhooks.md: the receiver's check is given what is really sent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.documents import check_step, find_blocks, find_sessions, name_files, read_page
from support.webhook_server import Request, WebhookServer

from inboxd import InboxFile
from inboxd.config.handler_kinds import HandlerKeys
from inboxd.config.loading import load_settings
from inboxd.handling.webhook import WebhookHandler

PAGE = read_page("webhooks.md")
BLOCKS = find_blocks(PAGE)
FILES = name_files(BLOCKS)


@pytest.mark.parametrize("body", ["raw", "multipart"])
def test_the_receivers_check_accepts_what_is_sent_and_nothing_else(body: str, tmp_path: Path) -> None:
    ((make_secret,),) = find_sessions(BLOCKS)
    check_step(make_secret, tmp_path)
    secret = (tmp_path / "books-secret").read_text().strip()
    receiver: dict[str, Any] = {}
    exec(compile(FILES["verify.py"], "verify.py", "exec"), receiver)
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n")

    with WebhookServer().running() as server:
        keys = HandlerKeys.model_validate({"url": server.url, "body": body, "secret_file": str(tmp_path / "books-secret")})
        WebhookHandler(keys)(InboxFile.of(tmp_path / "a.csv"))
    (request,) = server.requests

    def is_accepted(request: Request, secret: str = secret) -> bool:
        return bool(receiver["verify"](request.headers, request.body, secret))

    assert is_accepted(request)
    assert not is_accepted(replace(request, body=request.body + b"x"))
    assert not is_accepted(replace(request, headers={**request.headers, "webhook-id": "other"}))
    assert not is_accepted(replace(request, headers={**request.headers, "webhook-timestamp": "1700000000"}))
    assert not is_accepted(request, "whsec_" + "A" * 43 + "=")


def test_the_settings_are_valid(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(FILES["settings.toml"])

    assert load_settings(tmp_path / "settings.toml").inbox["books"].handled_by == "https://books.example.org/incoming"


def test_each_block_is_run() -> None:
    assert [language for language, _ in BLOCKS] == ["toml", "console", "python"]
