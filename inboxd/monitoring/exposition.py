"""The text that Prometheus reads: metrics with their help, kind and samples, in its format 0.0.4. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value and its labels; ``suffix`` is what a histogram's parts are called by."""

    value: float
    labels: Mapping[str, str]
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and all its samples; one without samples is announced all the same."""

    name: str
    kind: Kind
    help: str
    samples: tuple[Sample, ...] = ()


def histogram(bounds: Iterable[float], buckets: Iterable[int], total: float, labels: Mapping[str, str]) -> Iterator[Sample]:
    """Yield a histogram's samples. ``buckets`` has the number in each bucket, and last the number above all bounds."""
    count = 0
    for bound, number in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], buckets, strict=True):
        count += number
        yield Sample(count, {**labels, "le": bound}, "_bucket")
    yield Sample(total, labels, "_sum")
    yield Sample(count, labels, "_count")


def render(metrics: Iterable[Metric]) -> str:
    """Return the page."""
    return "".join(f"{line}\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for sample in metric.samples:
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
        yield f"{metric.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
