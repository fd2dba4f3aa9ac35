"""A real Prometheus accepts our rules, fires them when it should, and finds data for all that is asked of a real inboxd.

`make test-rules` gets one; it is Debian's, which nobody who only wants to run the tests need have.
"""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.free_port import free_port
from support.live.alerts import PROMETHEUS, RULES_FILE, choices, conditions, queries
from support.live.stand import Program, Stand

pytestmark = [pytest.mark.live, pytest.mark.prometheus]

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: inboxd
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
LOOSENED = re.compile(r"(==|>) [\d.]+")
"""A condition that any figure meets has data whenever its series are there."""


def promtool(*arguments: str | Path, cwd: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


class Server:
    """A Prometheus of the stand's, on a port of its own."""

    def __init__(self, stand: Stand, inboxd: int) -> None:
        self.port = free_port()
        config = stand.folder / "prometheus.yml"
        config.write_text(CONFIG.format(rules=RULES_FILE, port=inboxd), "utf-8")
        argv = (
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={stand.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        self.program: Program = stand.program("prometheus", argv, lambda _start: self.ask("status/buildinfo") is not None)

    def ask(self, what: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data of its answer; None while it does not answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except (urllib.error.URLError, OSError):
            return None

    def values(self, query: str) -> list[float]:
        """Return the values that a query finds now, NaN left out: 0/0 is no data."""
        found = [float(series["value"][1]) for series in (self.ask("query", query=query) or {"result": []})["result"]]
        return [value for value in found if value == value]  # noqa: PLR0124 - NaN alone is not itself

    def alerts(self) -> dict[str, str]:
        """Return alert -> pending or firing."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in (self.ask("alerts") or {"alerts": []})["alerts"]}


@pytest.fixture
def inboxd(make_stand: Callable[..., Stand]) -> tuple[Stand, Server]:
    """Start everything, with Prometheus, over an inbox where files go well, fail, and are tried again."""
    port = free_port()
    stand = make_stand({"drop": {"retries": 1}}, metrics={"listen": f"127.0.0.1:{port}"}).start()
    prometheus = Server(stand, port)
    prometheus.program.start()
    return stand, prometheus


def test_prometheus_accepts_the_rules_and_the_settings_that_we_name() -> None:
    rules = promtool("check", "rules", RULES_FILE.name)
    settings = promtool("check", "config", "scrape.yml")

    assert rules.returncode == 0, rules.stderr
    assert settings.returncode == 0, settings.stderr


def test_each_alert_fires_when_it_should_and_not_when_it_should_not() -> None:
    tested = promtool("test", "rules", "inboxd.rules.test.yml")

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(("was", "now"), [("for: 2m", "for: 1h"), ("> 3600", "> 60"), ('queue="inboxd.quarantine"', "")])
def test_a_rule_that_was_spoiled_is_noticed(was: str, now: str, tmp_path: Path) -> None:
    for file in PROMETHEUS.iterdir():
        (tmp_path / file.name).write_text(file.read_text("utf-8").replace(was, now), "utf-8")

    tested = promtool("test", "rules", "inboxd.rules.test.yml", cwd=tmp_path)

    assert tested.returncode != 0


def test_there_is_data_for_everything_that_is_asked_once_files_went_through(inboxd: tuple[Stand, Server]) -> None:
    stand, prometheus = inboxd
    asked = [*queries(), *(LOOSENED.sub(">= -1e9", condition) for condition in conditions())]
    dropped = 0

    def all_found() -> bool:
        nonlocal asked, dropped
        dropped += 1
        stand.drop(b"%d.txt" % dropped, b"describe me")  # rates need files that come while it looks
        stand.drop(b"%d.bad" % dropped, b"reject no total")
        asked = [query for query in asked if not prometheus.values(query)]
        print("no data yet:", *asked, sep="\n  ")  # noqa: T201 - shown with a failure
        return not asked

    stand.wait_until(all_found, seconds=60, awaited="data for everything that is asked")

    for series, label in choices():
        assert prometheus.ask(f"label/{label}/values", **{"match[]": series})


def test_a_real_outage_sets_off_its_alert_and_no_other(inboxd: tuple[Stand, Server]) -> None:
    stand, prometheus = inboxd
    stand.wait_until(lambda: prometheus.values("inboxd_sweeps_up == 1") and prometheus.alerts() == {})

    stand.redis.kill9()

    stand.wait_until(lambda: prometheus.alerts() == {"InboxdBrokerAway": "pending"})
