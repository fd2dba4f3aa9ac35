"""Alert rules and dashboard: every metric and label in them is one that the endpoint serves, and each alert says what to do."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.disk.spools import Spool
from support.live.alerts import DASHBOARD, RULES, RULES_TESTS, alerts, choices, conditions, queries
from support.valkey import settings_for

from inboxd.fs.syscalls import Disk
from inboxd.monitoring.collector import Collector

METRIC = re.compile(r"\binboxd_[a-z_]+\b")
SELECTED = re.compile(r"\b(inboxd_[a-z_]+)\{([^}]*)\}")
UNITS = {"short", "ops", "s"}
"""Grafana's names of units: numbers, things a second, seconds."""
FROM_PROMETHEUS = {"instance", "job"}


@pytest.fixture
def served(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> dict[str, set[str]]:
    """Return the labels of every sample that the endpoint serves, by the sample's name."""
    spool = Spool.make(tmp_path / "drop")
    settings = settings_for(valkey_url, spool.root)
    page = generate_latest(Collector(lambda: settings, valkey, Disk())).decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def expressions() -> Iterator[str]:
    """Yield what is asked of Prometheus, by the rules and by the dashboard."""
    yield from conditions()
    yield from queries()
    yield from (series for series, _ in choices())


def test_every_metric_that_is_asked_for_is_served(served: dict[str, set[str]]) -> None:
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}

    assert len(asked) > 10
    assert asked <= served.keys()


def test_every_metric_that_is_served_is_shown_or_alerted_on(served: dict[str, set[str]]) -> None:
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}

    assert served.keys() <= asked


def test_every_label_that_is_selected_by_is_served(served: dict[str, set[str]]) -> None:
    for expression in expressions():
        for name, labels in SELECTED.findall(expression):
            assert set(re.findall(r"(\w+)(?:=|!)", labels)) <= served[name] | FROM_PROMETHEUS, expression


@pytest.mark.parametrize("expression", list(expressions()))
def test_brackets_and_quotes_are_in_pairs(expression: str) -> None:
    bare = re.sub(r'"[^"]*"', "", expression)

    assert '"' not in bare
    assert all(bare.count(one) == bare.count(other) for one, other in ("()", "[]", "{}"))


@pytest.mark.parametrize(("name", "text"), list(alerts()), ids=lambda value: value if value.startswith("Inboxd") else "")
def test_each_alert_has_its_reason_its_severity_and_what_to_do(name: str, text: str) -> None:
    assert text.lstrip().startswith("# ")
    assert re.search(r"severity: (warning|critical)\n", text), name
    assert re.search(r"summary: \"[^\n]+\"\n", text), name
    assert re.search(r"description: \"[^\n]+\"", text), name


def test_the_rules_have_more_than_a_handful_of_alerts() -> None:
    names = [name for name, _ in alerts()]

    assert len(names) == len(set(names)) == RULES.count("- alert:") > 8


@pytest.mark.parametrize("name", [name for name, _ in alerts()])
def test_each_alert_has_a_test_that_it_fires_and_one_that_it_does_not(name: str) -> None:
    cases = re.findall(rf"alertname: {name}\n +exp_alerts:(.*)\n", RULES_TESTS)

    assert cases.count("") >= 1
    assert cases.count(" []") >= 1


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows_in_which_unit_and_asks_the_server_that_was_chosen(panel: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${source}"}

    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == chosen
    assert panel["targets"]
    assert all(target["datasource"] == chosen and target["legendFormat"] for target in panel["targets"])
    assert all("$instance" in target["expr"] for target in panel["targets"])


def test_everything_in_the_dashboard_has_a_number_of_its_own() -> None:
    panels = [panel["id"] for panel in DASHBOARD["panels"]]
    targets = [[target["refId"] for target in panel["targets"]] for panel in DASHBOARD["panels"]]

    assert len(panels) == len(set(panels))
    assert all(len(names) == len(set(names)) for names in targets)
    assert DASHBOARD["uid"]
    assert "id" not in DASHBOARD  # one of another server's keeps it from being imported


def test_panels_do_not_overlap() -> None:
    places = [(x, y) for panel in DASHBOARD["panels"] for x, y in _places(panel["gridPos"])]

    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def _places(grid: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(grid["x"], grid["x"] + grid["w"]):
        yield from ((x, y) for y in range(grid["y"], grid["y"] + grid["h"]))
