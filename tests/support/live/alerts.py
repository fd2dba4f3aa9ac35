"""Read the alerts and panels in deploy/ and yield their queries."""

import json
import re
from collections.abc import Iterator
from typing import Any

from support.repository import REPOSITORY

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
RULES_FILE = PROMETHEUS / "inboxd.rules.yml"
RULES = RULES_FILE.read_text("utf-8")
RULES_TESTS = (PROMETHEUS / "inboxd.rules.test.yml").read_text("utf-8")
DASHBOARD: dict[str, Any] = json.loads((PROMETHEUS.parent / "grafana" / "inboxd.json").read_text("utf-8"))

_EXPRESSION = re.compile(r"expr: (?:>-)?(.+?)\n        (?:for|labels):", re.DOTALL)
_VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$inbox": ".*"}


def alerts() -> Iterator[tuple[str, str]]:
    """Yield each alert's name and YAML text, with the comment above."""
    for block in re.split(r"(?:\n|rules:)\n(?=      #)", RULES)[1:]:
        yield re.search(r"- alert: (\w+)", block)[1], block  # type: ignore[index]


def conditions() -> Iterator[str]:
    """Yield each alert's expression."""
    for _, text in alerts():
        yield _EXPRESSION.search(text)[1].strip()  # type: ignore[index]


def queries() -> Iterator[str]:
    """Yield each panel's query, with Grafana's variables replaced: all hosts, all inboxes, the last minute."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in _VARIABLES.items():
                query = query.replace(name, value)
            yield query


def choices() -> Iterator[tuple[str, str]]:
    """Yield series and label of each dashboard variable: label_values(SERIES, LABEL)."""
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr, misc]
