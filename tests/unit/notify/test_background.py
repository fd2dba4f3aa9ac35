"""The notifier's thread: it runs only if somebody is to be notified, and outlives an error of a turn."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.valkey import settings_for
from support.waiting import eventually

from inboxd.config.settings import Settings
from inboxd.config.tables import Notify
from inboxd.logs import events
from inboxd.notify.background import BackgroundNotifier
from inboxd.notify.notifier import Notifier


def settings(url: str, root: Path, *urls: str) -> Settings:
    return settings_for(url, root).model_copy(update={"notify": Notify(urls=urls, every=0.01), "state_dir": root / "var"})


def test_turns_begin_with_the_first_url_and_end_with_the_stop(
    tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[Settings] = []
    monkeypatch.setattr(Notifier, "take_turn", lambda _self, current: turns.append(current))
    notifier = BackgroundNotifier(settings(valkey_url, tmp_path), {})

    notifier.start()
    assert not notifier.is_running

    notifier.apply(settings(valkey_url, tmp_path, "json://example.org/"))
    eventually(lambda: len(turns) > 2)
    notifier.stop()
    eventually(lambda: not notifier.is_running)


def test_an_error_is_logged_once_and_the_turns_go_on(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []

    def fail(_self: Notifier, _settings: Settings) -> None:
        turns.append(1)
        raise ValueError("unexpected")

    monkeypatch.setattr(Notifier, "take_turn", fail)
    notifier = BackgroundNotifier(settings(valkey_url, tmp_path, "json://example.org/"), {})

    with capture_logs() as logs:
        notifier.start()
        eventually(lambda: len(turns) > 3)
        notifier.stop()
        eventually(lambda: not notifier.is_running)

    assert [line["event"] for line in logs] == [events.NOTIFIER_FAILING]
