"""The page for Prometheus, read back by Prometheus's own parser."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from inboxd.monitoring.exposition import Kind, Metric, Sample, histogram, render

values = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**50)


@given(values, st.text(st.characters(exclude_categories=("Cs",))))
def test_values_and_labels_are_read_as_they_were_written(value: float, label: str) -> None:
    (family,) = text_string_to_metric_families(
        render([Metric("inboxd_x_files", Kind.GAUGE, "Some help.", (Sample(value, {"queue": label, "inbox": "a"}),))])
    )

    assert (family.name, family.type, family.documentation) == ("inboxd_x_files", "gauge", "Some help.")
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"queue": label, "inbox": "a"}, float(value))]


def test_a_histogram_s_buckets_add_up() -> None:
    samples = histogram((0.5, 10.0), (3, 4, 5), 99.5, {"inbox": "a"})

    (family,) = text_string_to_metric_families(render([Metric("x_seconds", Kind.HISTOGRAM, "Help.", tuple(samples))]))

    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name == "x_seconds_bucket"]
    rest = {s.name: s.value for s in family.samples if s.name != "x_seconds_bucket"}
    assert buckets == [(0.5, 3.0), (10.0, 7.0), (math.inf, 12.0)]
    assert rest == {"x_seconds_sum": 99.5, "x_seconds_count": 12.0}


def test_a_metric_without_samples_is_announced() -> None:
    assert render([Metric("x", Kind.GAUGE, "Help.")]) == "# HELP x Help.\n# TYPE x gauge\n"
