"""Notifications of a real beat, sent to real servers that are stopped, that hang, and of a beat that is killed."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.live.stand import Stand
from support.notify.failed import write_failed
from support.notify.sinks import HttpSink, SmtpSink, hung_server

from inboxd.messaging.queues import host_queue

pytestmark = pytest.mark.live

MakeStand = Callable[..., Stand]
STOP_SECONDS = 4.0


@pytest.fixture
def http() -> Iterator[HttpSink]:
    sink = HttpSink()
    sink.start()
    yield sink
    sink.stop()


@pytest.fixture
def smtp() -> Iterator[SmtpSink]:
    sink = SmtpSink()
    sink.start()
    yield sink
    sink.stop()


def make(make_stand: MakeStand, *urls: str, every: float = 2.0, hourly_max: int = 1000) -> Stand:
    """Return a stand whose Redis runs, and whose beat is about to be started."""
    stand = make_stand(notify={"urls": list(urls), "every": every, "hourly_max": hourly_max})
    stand.redis.start()
    return stand


def told(texts: list[str]) -> int:
    """Return the number of failed files that these messages tell."""
    return sum(int(number) for text in texts for number in re.findall(r"Inbox drop: (\d+) files? failed", text))


def test_a_failed_file_is_told_by_mail_and_by_a_webhook(make_stand: MakeStand, http: HttpSink, smtp: SmtpSink) -> None:
    stand = make(make_stand, http.url, smtp.url)
    for program in (stand.watcher, stand.worker, stand.beat):
        program.start()
    stand.drop(b"a.txt", b"reject no total")

    stand.wait_until(lambda: http.messages and smtp.mails, awaited="both messages")

    mail = smtp.mails[0]
    assert mail["subject"] == "inboxd on stand: 1 file failed in drop"
    assert mail.get_content_type() == "text/plain"
    assert "a.txt: no total" in mail.get_content()
    assert "a.txt: no total" in http.bodies[0]
    assert http.messages[0]["type"] == "warning"


@pytest.mark.parametrize("kind", ["http", "smtp"])
def test_a_server_that_is_away_for_a_while_is_told_each_failure_once(
    make_stand: MakeStand, http: HttpSink, smtp: SmtpSink, kind: str
) -> None:
    sink, other = (http, smtp) if kind == "http" else (smtp, http)
    stand = make(make_stand, http.url, smtp.url)
    stand.beat.start()
    write_failed(stand.root(), b"0.txt")
    stand.wait_until(lambda: http.messages and smtp.mails)

    sink.stop()
    for number in range(1, 4):
        write_failed(stand.root(), b"%d.txt" % number)
        stand.wait_until(lambda number=number: count(http, smtp, other) == number + 1)
    stand.wait_until(lambda: stand.log_events("notifier_failing", stand.beat))
    sink.start()
    stand.wait_until(lambda: count(http, smtp, sink) >= 4, awaited="the failures that it has missed")

    assert (count(http, smtp, sink), count(http, smtp, other)) == (4, 4)
    assert len(stand.log_events("notifier_failing", stand.beat)) == 1
    assert "the-password" not in stand.beat.text() + (stand.folder / "var/notify/state.json").read_text()


def count(http: HttpSink, smtp: SmtpSink, sink: object) -> int:
    """Return how many failed files were told to a sink."""
    return told(http.bodies if sink is http else [mail.get_content() for mail in smtp.mails])


def test_a_beat_that_is_killed_again_and_again_loses_nothing_and_repeats_little(make_stand: MakeStand, http: HttpSink) -> None:
    stand = make(make_stand, http.url)
    kills = 4
    for number in range(kills):
        stand.beat.start()
        write_failed(stand.root(), b"%d.txt" % number)
        stand.wait_until(lambda number=number: any(f"{number}.txt: " in body for body in http.bodies))
        stand.beat.kill9()  # perhaps before it has recorded the message
        stand.client.flushall()
    stand.beat.start()
    write_failed(stand.root(), b"last.txt")
    stand.wait_until(lambda: any("last.txt: " in body for body in http.bodies))

    assert len(http.messages) <= 2 * kills + 1, "a message is repeated at most once for each kill"
    for number in range(kills):
        assert 1 <= sum(f"{number}.txt: " in body for body in http.bodies) <= 1 + kills - number


def test_a_server_that_hangs_delays_neither_the_schedule_nor_the_stop(make_stand: MakeStand) -> None:
    with hung_server() as port:
        stand = make(make_stand, f"mailto://127.0.0.1:{port}/?from=a@example.org&to=b@example.org&cto=300")
        write_failed(stand.root(), b"a.txt")
        stand.beat.start()
        stand.wait_until(lambda: len(senders(stand)) == 1, awaited="the program that sends")
        sweeps = sweeps_sent(stand)
        stand.wait_until(lambda: sweeps_sent(stand) >= sweeps + 3, 15, awaited="further sweeps")
        assert len(senders(stand)) == 1

        started = time.monotonic()
        code = stand.beat.stop()

    assert (code, time.monotonic() - started < STOP_SECONDS) == (0, True)
    stand.wait_until(lambda: not senders(stand), 5, awaited="the end of the program that sends")


def sweeps_sent(stand: Stand) -> int:
    """Return how many sweeps wait for a worker; none runs."""
    return int(stand.client.llen(host_queue("stand")))


def senders(stand: Stand) -> list[int]:
    """Return the ids of the programs that send a message."""
    return [pid for pid in stand.live_pids() if b"inboxd.notify.deliver" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_ten_thousand_failures_are_told_in_few_messages(make_stand: MakeStand, http: HttpSink) -> None:
    stand = make(make_stand, http.url, every=5.0)
    stand.beat.start()
    for number in range(10_000):
        write_failed(stand.root(), b"%d/%d.txt" % (number // 1000, number))

    stand.wait_until(lambda: told(http.bodies) >= 10_000, awaited="all failures")

    assert told(http.bodies) == 10_000
    assert len(http.messages) <= 10
    assert max(map(len, http.bodies)) < 3000
