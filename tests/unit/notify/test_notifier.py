"""What is told to whom and when: each failure at least once, in few messages, whatever fails or dies in between."""

import json
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs
from support.disk.spools import Spool
from support.notify.failed import write_failed

from inboxd.broker.inbox_outages import clear_inbox_outage, record_inbox_outage
from inboxd.config.settings import Settings
from inboxd.fs.syscalls import Disk
from inboxd.logs import events
from inboxd.notify.conditions import Conditions
from inboxd.notify.messages import Message
from inboxd.notify.notifier import Clocks, Notifier
from inboxd.notify.state import NotifyState, load_state

GOOD, DEAD = "json://good.example/", "json://user:pw@dead.example/"
TURN_SECONDS = 10.0


class Desk:
    """A notifier over a spool and a real Valkey, whose clock goes on with each turn; it can be killed and started again."""

    def __init__(self, spool: Spool, client: redis.Redis, url: str, state_dir: Path) -> None:
        self.spool, self.client, self.url, self.state_dir = spool, client, url, state_dir
        self.tables: dict[str, Any] = {"notify": {"urls": [GOOD]}}
        self.rules: dict[str, Any] = {}
        self.elapsed = 0.0
        self.set_back = 0.0
        self.refused: dict[str, str] = {}
        self.sent: list[tuple[str, Message]] = []
        self.tried = 0
        self.after_send: Callable[[], None] = lambda: None
        self.start()

    @property
    def settings(self) -> Settings:
        inbox = {"drop": {"root": str(self.spool.root), **self.rules}}
        tables = {"host": "here", "state_dir": str(self.state_dir), "redis": {"url": self.url}, "inbox": inbox}
        return Settings(**{**tables, **self.tables})

    def start(self) -> None:
        """Start a notifier that knows only what is stored."""
        clocks = Clocks(lambda: time.time() + self.elapsed - self.set_back, lambda: time.monotonic() + self.elapsed)
        conditions = Conditions(Disk(), self.client, clocks.monotonic)
        self.notifier = Notifier(Disk(), conditions, self._send, {}, clocks)

    def run(self, seconds: float) -> None:
        """Take turns until so many seconds have passed."""
        settings = self.settings
        for _ in range(int(seconds / TURN_SECONDS)):
            self.elapsed += TURN_SECONDS
            self.notifier.take_turn(settings)

    def texts(self, url: str = GOOD) -> list[str]:
        return [message.body for to, message in self.sent if to == url]

    def titles(self, url: str = GOOD) -> list[str]:
        return [message.title.removeprefix("inboxd on here: ") for to, message in self.sent if to == url]

    def state(self) -> NotifyState:
        state = load_state(Disk(), PurePath(self.state_dir))
        assert state is not None
        return state

    def _send(self, url: str, message: Message) -> str:
        self.tried += 1
        if error := self.refused.get(url):
            return error
        self.sent.append((url, message))
        self.after_send()
        return ""


@pytest.fixture
def desk(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> Desk:
    return Desk(Spool.make(tmp_path / "drop"), valkey, valkey_url, tmp_path / "var")


def test_a_failure_is_told_within_a_minute_with_its_reason_and_what_to_type(desk: Desk) -> None:
    desk.run(10)
    write_failed(desk.spool.root, b"2026/a.pdf", "no total")

    desk.run(30)

    assert desk.titles() == ["1 file failed in drop"]
    assert "2026/a.pdf: no total" in desk.texts()[0]
    assert "inboxd retry --inbox drop" in desk.texts()[0]


def test_later_failures_are_told_together_at_the_interval(desk: Desk) -> None:
    write_failed(desk.spool.root, b"first.pdf")
    desk.run(30)
    for number in range(3):
        write_failed(desk.spool.root, b"%d.pdf" % number)
        desk.run(60)

    assert desk.titles() == ["1 file failed in drop"]
    desk.run(600)

    assert desk.titles()[1:] == ["3 files failed in drop"]


def test_many_failures_are_told_in_few_messages_that_count_all(desk: Desk) -> None:
    for batch in range(10):
        for number in range(200):
            write_failed(desk.spool.root, b"%d/%d.pdf" % (batch, number))
        desk.run(120)
    desk.run(1200)

    counts = [int(title.split(" ")[0]) for title in desk.titles()]
    assert sum(counts) == 2000
    assert len(counts) <= 4
    assert max(len(text) for text in desk.texts()) < 3000


def test_no_more_messages_than_the_maximum_are_sent_in_an_hour(desk: Desk) -> None:
    desk.tables["notify"] |= {"every": 10.0, "hourly_max": 3}
    for number in range(100):
        write_failed(desk.spool.root, b"%d.pdf" % number)
        desk.run(30)

    assert len(desk.sent) == 3
    desk.run(3600)

    assert sum(int(title.split(" ")[0]) for title in desk.titles()) == 100


def test_a_restart_tells_nothing_again_and_forgets_nothing(desk: Desk) -> None:
    write_failed(desk.spool.root, b"a.pdf")
    desk.run(30)
    write_failed(desk.spool.root, b"b.pdf")

    desk.start()
    desk.client.flushall()
    desk.run(900)

    assert desk.titles() == ["1 file failed in drop", "1 file failed in drop"]
    assert "b.pdf" in desk.texts()[1]


def test_a_death_between_sending_and_recording_repeats_the_message_once(desk: Desk) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    write_failed(desk.spool.root, b"a.pdf")
    desk.after_send = die
    with pytest.raises(KeyboardInterrupt):
        desk.run(30)

    desk.after_send = lambda: None
    desk.start()
    desk.run(1800)

    assert desk.titles() == ["1 file failed in drop"] * 2


def test_a_dead_url_repeats_nothing_to_the_other_and_is_told_all_when_it_is_back(desk: Desk) -> None:
    desk.tables["notify"]["urls"] = [GOOD, DEAD]
    desk.refused[DEAD] = "Connection refused"
    for number in range(5):
        write_failed(desk.spool.root, b"%d.pdf" % number)
        desk.run(1200)

    assert desk.titles() == ["1 file failed in drop"] * 5
    assert desk.tried - 5 < 20, "tries grow rarer"

    desk.refused.clear()
    desk.run(3600)

    assert desk.titles(DEAD) == ["5 files failed in drop"]
    assert len(desk.titles()) == 5


def test_a_url_that_fails_is_logged_once_and_recorded_without_its_password(desk: Desk) -> None:
    desk.tables["notify"]["urls"] = [DEAD]
    desk.refused[DEAD] = "Connection refused"
    write_failed(desk.spool.root, b"a.pdf")

    with capture_logs() as logs:
        desk.run(1800)
        desk.refused.clear()
        desk.run(3600)

    names = [line["event"] for line in logs]
    assert names == [events.NOTIFIER_FAILING, events.NOTIFICATION_SENT, events.NOTIFIER_RECOVERED]
    assert logs[0]["to"] == "json://dead.example"
    assert "pw" not in (desk.state_dir / "notify/state.json").read_text()


def test_a_pause_and_its_end_are_told_if_they_last(desk: Desk) -> None:
    desk.run(10)
    record_inbox_outage(desk.client, "here", "drop", "the disk is full")
    desk.run(60)
    assert desk.titles() == ["drop paused"]
    assert "the disk is full" in desk.texts()[0]

    desk.client.flushall()
    desk.run(30)
    record_inbox_outage(desk.client, "here", "drop", "the disk is full")
    desk.run(900)
    assert len(desk.sent) == 1, "a lost record is no recovery"

    clear_inbox_outage(desk.client, "here", "drop", "")
    desk.run(120)
    assert desk.titles()[1:] == ["drop recovered"]


def test_a_pause_is_not_told_again_after_a_restart_but_its_end_is(desk: Desk) -> None:
    record_inbox_outage(desk.client, "here", "drop", "the disk is full")
    desk.run(60)
    desk.start()
    desk.run(900)
    clear_inbox_outage(desk.client, "here", "drop", "")
    desk.run(120)

    assert desk.titles() == ["drop paused", "drop recovered"]


def test_a_file_that_is_stuck_is_told(desk: Desk) -> None:
    parcel = "000000000001" + "0" * 16  # claimed in 1970
    desk.spool.put(b"claimed/%s/a.pdf" % parcel.encode())

    desk.run(30)

    assert desk.titles() == ["drop stuck"]
    assert "a.pdf has been claimed for" in desk.texts()[0]


def test_kinds_that_are_not_wanted_are_skipped_and_not_told_later(desk: Desk) -> None:
    desk.rules["notify_on"] = ["paused"]
    write_failed(desk.spool.root, b"a.pdf")
    desk.run(60)
    desk.rules.clear()
    write_failed(desk.spool.root, b"b.pdf")
    desk.run(60)

    assert desk.titles() == ["1 file failed in drop"]
    assert "b.pdf" in desk.texts()[0]


def test_an_inbox_may_have_its_own_urls_or_be_switched_off(desk: Desk) -> None:
    desk.rules["notify_urls"] = [DEAD]
    write_failed(desk.spool.root, b"a.pdf")
    desk.run(60)
    assert (desk.titles(), desk.titles(DEAD)) == ([], ["1 file failed in drop"])

    desk.rules["notify_on"] = []
    write_failed(desk.spool.root, b"b.pdf")
    desk.run(1200)
    assert len(desk.sent) == 1


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"recipients": {"x": {"label": "y"}}, "problems": []}', "\x00" * 100])
def test_after_a_lost_record_the_failures_of_the_last_hour_are_told(desk: Desk, text: str) -> None:
    (desk.state_dir / "notify").mkdir(parents=True)
    (desk.state_dir / "notify/state.json").write_text(text)
    write_failed(desk.spool.root, b"a.pdf")

    with capture_logs() as logs:
        desk.run(60)

    assert desk.titles() == ["1 file failed in drop"]
    assert logs[0]["event"] == events.NOTIFIER_STATE_LOST
    json.loads((desk.state_dir / "notify/state.json").read_text())


def test_a_clock_that_is_set_back_loses_no_failure(desk: Desk) -> None:
    write_failed(desk.spool.root, b"a.pdf")
    desk.run(3600)
    desk.elapsed, desk.set_back = desk.elapsed, desk.elapsed + 7200.0  # the marks are hours ahead of new files' times

    desk.run(30)
    write_failed(desk.spool.root, b"b.pdf")
    desk.run(1200)

    assert any("b.pdf" in text for text in desk.texts()[1:])


def test_a_folder_that_can_not_be_read_is_a_problem_and_no_recovery(desk: Desk) -> None:
    desk.run(10)
    (desk.spool.root / "failed").rename(desk.spool.root / "gone")

    desk.run(30)

    assert "drop: " in desk.state().problems[0]
    (desk.spool.root / "gone").rename(desk.spool.root / "failed")
    desk.run(30)
    assert desk.state().problems == ()
    assert desk.sent == []
