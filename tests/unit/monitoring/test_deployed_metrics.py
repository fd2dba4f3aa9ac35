"""Alert rules and dashboard: they use metrics and labels that the endpoint serves, and each alert has a remedy."""

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
"""Grafana's names of units: numbers, operations per second, seconds."""
LABELS_ADDED_BY_PROMETHEUS = {"instance", "job"}


@pytest.fixture
def served(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> dict[str, set[str]]:
    """Return the labels of all samples that the endpoint serves, by the sample's name."""
    spool = Spool.make(tmp_path / "drop")
    settings = settings_for(valkey_url, spool.root)
    page = generate_latest(Collector(lambda: settings, valkey, Disk())).decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def expressions() -> Iterator[str]:
    """Yield the PromQL expressions of the rules and of the dashboard."""
    yield from conditions()
    yield from queries()
    yield from (series for series, _ in choices())


def test_each_queried_metric_is_served(served: dict[str, set[str]]) -> None:
    queried = {name for expression in expressions() for name in METRIC.findall(expression)}

    assert len(queried) > 10
    assert queried <= served.keys()


def test_each_served_metric_is_queried(served: dict[str, set[str]]) -> None:
    queried = {name for expression in expressions() for name in METRIC.findall(expression)}

    assert served.keys() <= queried


def test_each_selected_label_is_served(served: dict[str, set[str]]) -> None:
    for expression in expressions():
        for name, labels in SELECTED.findall(expression):
            assert set(re.findall(r"(\w+)(?:=|!)", labels)) <= served[name] | LABELS_ADDED_BY_PROMETHEUS, expression


@pytest.mark.parametrize("expression", list(expressions()))
def test_brackets_and_quotes_are_balanced(expression: str) -> None:
    unquoted = re.sub(r'"[^"]*"', "", expression)

    assert '"' not in unquoted
    assert all(unquoted.count(opening) == unquoted.count(closing) for opening, closing in ("()", "[]", "{}"))


@pytest.mark.parametrize(("name", "text"), list(alerts()), ids=lambda value: value if value.startswith("Inboxd") else "")
def test_each_alert_has_a_reason_a_severity_and_a_description(name: str, text: str) -> None:
    assert text.lstrip().startswith("# ")
    assert re.search(r"severity: (warning|critical)\n", text), name
    assert re.search(r"summary: \"[^\n]+\"\n", text), name
    assert re.search(r"description: \"[^\n]+\"", text), name


def test_alert_names_are_unique_and_all_alerts_are_parsed() -> None:
    names = [name for name, _ in alerts()]

    assert len(names) == len(set(names)) == RULES.count("- alert:") > 8


@pytest.mark.parametrize("name", [name for name, _ in alerts()])
def test_each_alert_has_a_test_that_fires_it_and_one_that_does_not(name: str) -> None:
    cases = re.findall(rf"alertname: {name}\n +exp_alerts:(.*)\n", RULES_TESTS)

    assert cases.count("") >= 1
    assert cases.count(" []") >= 1


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_each_panel_has_a_description_a_unit_and_the_selected_data_source(panel: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${source}"}

    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == source
    assert panel["targets"]
    assert all(target["datasource"] == source and target["legendFormat"] for target in panel["targets"])
    assert all("$instance" in target["expr"] for target in panel["targets"])


def test_ids_in_the_dashboard_are_unique() -> None:
    panels = [panel["id"] for panel in DASHBOARD["panels"]]
    targets = [[target["refId"] for target in panel["targets"]] for panel in DASHBOARD["panels"]]

    assert len(panels) == len(set(panels))
    assert all(len(names) == len(set(names)) for names in targets)
    assert DASHBOARD["uid"]
    assert "id" not in DASHBOARD  # with an id of another server, Grafana refuses the import


def test_panels_do_not_overlap() -> None:
    cells = [(x, y) for panel in DASHBOARD["panels"] for x, y in _cells(panel["gridPos"])]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def _cells(grid: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(grid["x"], grid["x"] + grid["w"]):
        yield from ((x, y) for y in range(grid["y"], grid["y"] + grid["h"]))
