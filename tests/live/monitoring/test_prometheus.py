"""A real Prometheus accepts our rules, fires the alerts at the right time, and has data for every query in deploy/.

`make test-rules` installs Debian's Prometheus; the other tests don't need it.
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
from support.waiting import PROGRAM_SECONDS

pytestmark = [pytest.mark.live, pytest.mark.prometheus]

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: inboxd
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
COMPARISON = re.compile(r"(==|>) [\d.]+")
"""The comparison in an alert; replaced by one that is always true, the alert has data whenever its series exist."""


def promtool(*arguments: str | Path, cwd: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
    )


class Server:
    """A Prometheus server as a program of the stand, which scrapes inboxd's port."""

    def __init__(self, stand: Stand, inboxd_port: int) -> None:
        self.port = free_port()
        config = stand.folder / "prometheus.yml"
        config.write_text(CONFIG.format(rules=RULES_FILE, port=inboxd_port), "utf-8")
        argv = (
            "prometheus", f"--config.file={config}", f"--storage.tsdb.path={stand.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        self.program: Program = stand.program("prometheus", argv, lambda _start: self.get("status/buildinfo") is not None)

    def get(self, endpoint: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """Return the data of the server's JSON response; None if the server is unreachable."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)["data"]
        except (urllib.error.URLError, OSError):
            return None

    def values(self, query: str) -> list[float]:
        """Return a query's current values without NaN, which 0/0 yields."""
        values = [float(series["value"][1]) for series in (self.get("query", query=query) or {"result": []})["result"]]
        return [value for value in values if value == value]  # noqa: PLR0124 - only NaN is unequal to itself

    def alerts(self) -> dict[str, str]:
        """Return the name of each active alert -> "pending" or "firing"."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in (self.get("alerts") or {"alerts": []})["alerts"]}


@pytest.fixture
def inboxd(make_stand: Callable[..., Stand]) -> tuple[Stand, Server]:
    """Start all programs and a Prometheus server."""
    port = free_port()
    stand = make_stand({"drop": {"retries": 1}}, metrics={"listen": f"127.0.0.1:{port}"}).start()
    prometheus = Server(stand, port)
    prometheus.program.start()
    return stand, prometheus


def test_prometheus_accepts_the_rules_and_the_scrape_settings() -> None:
    rules = promtool("check", "rules", RULES_FILE.name)
    settings = promtool("check", "config", "scrape.yml")

    assert rules.returncode == 0, rules.stderr
    assert settings.returncode == 0, settings.stderr


def test_the_rule_tests_pass() -> None:
    result = promtool("test", "rules", "inboxd.rules.test.yml")

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(("old", "new"), [("for: 2m", "for: 1h"), ("> 3600", "> 60"), ('queue="inboxd.quarantine"', "")])
def test_the_rule_tests_fail_with_a_changed_rule(old: str, new: str, tmp_path: Path) -> None:
    for file in PROMETHEUS.iterdir():
        (tmp_path / file.name).write_text(file.read_text("utf-8").replace(old, new), "utf-8")

    result = promtool("test", "rules", "inboxd.rules.test.yml", cwd=tmp_path)

    assert result.returncode != 0


def test_every_query_has_data_once_files_were_processed(inboxd: tuple[Stand, Server]) -> None:
    stand, prometheus = inboxd
    without_data = [*queries(), *(COMPARISON.sub(">= -1e9", condition) for condition in conditions())]
    dropped = 0

    def have_data() -> bool:
        nonlocal without_data, dropped
        dropped += 1
        stand.drop(b"%d.txt" % dropped, b"describe me")  # rates need files that arrive between scrapes
        stand.drop(b"%d.bad" % dropped, b"reject no total")
        without_data = [query for query in without_data if not prometheus.values(query)]
        print("no data yet:", *without_data, sep="\n  ")  # noqa: T201 - part of the failure report
        return not without_data

    stand.wait_until(have_data, seconds=60, awaited="data for every query")

    for series, label in choices():
        assert prometheus.get(f"label/{label}/values", **{"match[]": series})


def test_a_redis_outage_triggers_its_alert_and_no_other(inboxd: tuple[Stand, Server]) -> None:
    stand, prometheus = inboxd
    stand.wait_until(lambda: prometheus.values("inboxd_sweeps_up == 1") and prometheus.alerts() == {})

    stand.redis.kill9()

    stand.wait_until(lambda: prometheus.alerts() == {"InboxdBrokerUnavailable": "pending"})
