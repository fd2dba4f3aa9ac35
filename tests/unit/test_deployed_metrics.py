"""Alert rules and dashboard: every metric and label in them is one that the endpoint serves, and each alert says what to do."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from support.spools import Spool
from support.valkey import settings_for

from spool.disk import Disk
from spool.exposition import render
from spool.health import Health

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = (DEPLOY / "prometheus" / "inboxd.rules.yml").read_text("utf-8")
DASHBOARD = json.loads((DEPLOY / "grafana" / "inboxd.json").read_text("utf-8"))

PREFIX = "inboxd_"
METRIC = re.compile(r"\binboxd_[a-z_]+\b")
SELECTED = re.compile(r"\b(inboxd_[a-z_]+)\{([^}]*)\}")
FROM_PROMETHEUS = {"instance", "job"}


@pytest.fixture
def served(tmp_path: Path, valkey_url: str, valkey: redis.Redis) -> dict[str, set[str]]:
    """Return the labels of every sample that the endpoint serves, by the sample's name."""
    spool = Spool.make(tmp_path / "drop")
    settings = settings_for(valkey_url, spool.root)
    page = render(Health(lambda: settings, valkey, Disk()).metrics())
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def alerts() -> Iterator[tuple[str, str]]:
    """Yield each alert's name and text, with the comment above it."""
    for block in re.split(r"(?:\n|rules:)\n(?=      #)", RULES)[1:]:
        yield re.search(r"- alert: (\w+)", block)[1], block  # type: ignore[index]


def expressions() -> Iterator[str]:
    """Yield what is asked of Prometheus, by the rules and by the dashboard."""
    for _, text in alerts():
        yield re.search(r"expr: (?:>-)?(.+?)\n        (?:for|labels):", text, re.DOTALL)[1]  # type: ignore[index]
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query")


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


def test_panels_do_not_overlap() -> None:
    places = [(x, y) for panel in DASHBOARD["panels"] for x, y in _places(panel["gridPos"])]

    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def _places(grid: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(grid["x"], grid["x"] + grid["w"]):
        yield from ((x, y) for y in range(grid["y"], grid["y"] + grid["h"]))
