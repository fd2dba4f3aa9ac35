import math
from pathlib import Path

import pytest

from bench.measure.trials import Burst, LoneFiles
from bench.measure.usage import Usage
from bench.report import pages, results
from bench.report.limits import check_limits
from bench.report.results import Row, Run, Summary, summarize
from bench.report.table import table


def run(seconds: float, *, cpu: float = 1.0, milliseconds: float = 5.0, arrived: int = 1000, has_traffic: bool = True) -> Run:
    lone = LoneFiles([milliseconds] * 99 + [milliseconds * 2])
    return Run(
        Burst(1000, arrived, seconds, 0.1, Usage(cpu, cpu / 2, 100.0, 10.0, {"worker": cpu / 4, "watcher": cpu * 0.75})),
        lone,
        lone if has_traffic else None,
    )


def summary(*runs: Run) -> Summary:
    return summarize(runs)


def test_a_summary_has_the_medians_and_the_range_of_rates() -> None:
    found = summarize([run(1.0, milliseconds=1.0), run(4.0, milliseconds=3.0), run(2.0, milliseconds=2.0)])

    assert (found.rate, found.rates, found.lone_p50, found.lone_p99) == (500.0, (250.0, 1000.0), 2.0, 2.0)


def test_processor_time_is_per_thousand_arrived_files_and_lost_files_are_counted() -> None:
    found = summarize([run(1.0, cpu=1.0, arrived=500)])

    assert (found.rate, found.cpu, found.server_cpu, found.all_cpu, found.lost) == (500.0, 2.0, 1.0, 3.0, 500)


def test_the_figures_of_an_omitted_trial_are_nan() -> None:
    assert math.isnan(summarize([run(1.0, has_traffic=False)]).traffic_p99)


def test_each_limit_is_checked_and_a_missed_one_is_reported() -> None:
    slow, fast = summary(run(10.0, cpu=10.0)), summary(run(1.0, cpu=1.5, milliseconds=9.0))

    checks = check_limits({"celery": slow, "bullmq": summary(run(3.0)), "inboxd": fast})

    assert [(check.is_met, check.message.rpartition(") ")[2]) for check in checks] == [
        (False, "MISSED"),  # 10 times plain Celery
        (False, "MISSED"),  # 0.15 of its processor time
        (True, "ok"),  # 3 times chokidar + BullMQ
        (False, "MISSED"),  # 9 ms
        (True, "ok"),
        (True, "ok"),
        (True, "ok"),
    ]


def test_a_figure_between_limit_and_target_is_ok_and_the_target_is_named() -> None:
    checks = check_limits({"celery": summary(run(15.0, cpu=20.0)), "inboxd": summary(run(1.0))})

    assert checks[0].message == "throughput, times plain Celery: 15 (>= 12) ok, below the target 20"


def test_the_limit_of_a_figure_that_was_not_measured_is_missed() -> None:
    checks = check_limits({"inboxd": summary(run(1.0, has_traffic=False))})

    assert [check.name for check in checks if not check.is_met] == ["lone file with other traffic, p99 in ms"]


def test_the_table_has_a_line_for_each_peer_and_the_error_of_one_without_figures() -> None:
    rows = [
        Row("celery", "plain Celery", [run(4.0)]),
        Row("bullmq", "BullMQ", [], "not installed: no node"),
        Row("inboxd", "inboxd", [run(1.0)]),
    ]

    lines = table(rows).splitlines()

    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(line) for line in lines[:5]}) == 1
    assert cells[2] == ["plain Celery", "250 (250-250)", "1.0", "5.0 / 5.0", "5.0 / 5.0", "1.00 + 0.50", "100 + 10", "0"]
    assert cells[3][:2] == ["BullMQ", "-"]
    assert cells[4][2] == "4.0"
    assert lines[5:7] == ["", "- BullMQ: not installed: no node"]
    assert lines[7] == "- plain Celery, CPU ms per file: watcher 0.75, server 0.50, worker 0.25"


def test_written_results_are_read_back_unchanged(tmp_path: Path) -> None:
    rows = [Row("a", "A", [run(1.0), run(2.0, has_traffic=False)]), Row("b", "B", [], "no")]

    results.write(tmp_path / "deep" / "results.json", rows, {"cores": 2})

    assert results.read(tmp_path / "deep" / "results.json") == (rows, {"cores": 2})


def test_publishing_replaces_only_the_text_between_the_marks(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text(f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n", "utf-8")
    (tmp_path / "drawn.png").write_bytes(b"png")

    for _ in range(2):
        pages.publish("new\n", tmp_path / "drawn.png", tmp_path)

    assert (tmp_path / "performance.md").read_text("utf-8") == f"before\n{pages.BEGIN}\nnew\n{pages.END}\nafter\n"
    assert (tmp_path / "throughput.png").read_bytes() == b"png"


@pytest.mark.parametrize("page", ["no marks at all\n", f"{pages.END} the wrong way round {pages.BEGIN}"])
def test_a_page_without_marks_is_not_changed(tmp_path: Path, page: str) -> None:
    (tmp_path / "performance.md").write_text(page, "utf-8")

    with pytest.raises(ValueError, match="marks"):
        pages.publish("new\n", tmp_path / "none.png", tmp_path)

    assert (tmp_path / "performance.md").read_text("utf-8") == page
