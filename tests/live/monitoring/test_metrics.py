"""The metrics endpoint of a real watcher while files are processed, and watchers whose endpoint is unavailable."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.free_port import free_port
from support.live.stand import Stand

pytestmark = pytest.mark.live

Page = dict[tuple[str, str], float]


def scraped(port: int) -> Page:
    """Return (sample name, label values joined by ",") -> value; {} if the endpoint is unreachable."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=15) as response:
            text = response.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    return {(s.name, ",".join(s.labels.values())): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def found_total(page: Page) -> float:
    return sum(value for (name, _), value in page.items() if name == "inboxd_found_total")


def test_each_outcome_is_counted_once(make_stand: Callable[..., Stand]) -> None:
    port = free_port()
    stand = make_stand({"drop": {"retries": 1}}, metrics={"listen": f"127.0.0.1:{port}"}).start()
    stand.drop_folder(b"many", {b"%d.txt" % number: b"describe %d" % number for number in range(20)})
    stand.drop(b"bad.txt", b"always_raise on purpose")
    stand.drop(b"rejected.txt", b"reject no total")
    stand.path("inbox", b"link").symlink_to("/etc/passwd")
    expected = {"done": 20, "failed": 2, "refused": 1}

    def outcomes() -> dict[str, float]:
        page = scraped(port)
        return {outcome: page.get(("inboxd_files_total", f"drop,{outcome}"), 0.0) for outcome in expected}

    stand.wait_until(lambda: outcomes() == expected, awaited="all outcomes to be counted")
    stand.wait_until(lambda: scraped(port)["inboxd_in_flight_files", "drop"] == 0, awaited="the next count of the folders")
    stand.wait_until(lambda: found_total(scraped(port)) == 22, awaited="the count of claimed files")
    page = scraped(port)

    assert page["inboxd_latency_seconds_count", "drop"] == 20
    assert 0 < page["inboxd_latency_seconds_sum", "drop"] < 20 * 30
    assert [page[name, ""] for name in ("inboxd_broker_up", "inboxd_watcher_up", "inboxd_sweeps_up")] == [1, 1, 1]
    assert page["inboxd_inbox_outage", "drop"] == 0


def test_broker_up_is_zero_while_redis_is_unavailable(make_stand: Callable[..., Stand]) -> None:
    port = free_port()
    stand = make_stand(metrics={"listen": f"127.0.0.1:{port}"})
    stand.redis.start()
    stand.watcher.start()
    stand.wait_until(lambda: scraped(port).get(("inboxd_broker_up", "")) == 1.0)

    stand.redis.kill9()

    stand.wait_until(lambda: scraped(port).get(("inboxd_broker_up", "")) == 0.0)
    assert ("inboxd_waiting_files", "drop") in scraped(port)
    assert stand.watcher.stop() == 0


def test_a_watcher_whose_metrics_port_is_in_use_works_and_stops(make_stand: Callable[..., Stand]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        stand = make_stand(metrics={"listen": f"127.0.0.1:{listener.getsockname()[1]}"}).start()
        stand.wait_until(lambda: stand.log_events("metrics_unavailable", stand.watcher))

        stand.drop(b"a.txt", b"describe me")

        stand.wait_until(lambda: stand.names("done") == {b"a.txt"})
    assert stand.watcher.stop() == 0


def test_the_watcher_refuses_a_public_metrics_address_without_remote(make_stand: Callable[..., Stand]) -> None:
    stand = make_stand(metrics={"listen": "0.0.0.0:9464"})

    stand.watcher.spawn()

    assert stand.watcher.wait(15) == 2
    assert "metrics" in stand.watcher.text()
    assert "remote = true" in stand.watcher.text()
