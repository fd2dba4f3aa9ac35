"""Draw a chart of each peer's throughput and latency. Runs in the peers' venv, which has matplotlib."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

INBOXD, PEER, FLOOR = "#2563eb", "#94a3b8", "#cbd5e1"


def draw_bars(axes: Any, rows: list[dict[str, Any]], key: str, title: str, number_format: str, *, is_log: bool) -> None:  # noqa: ANN401 - matplotlib's
    """Draw a horizontal bar for each peer, the first at the top."""
    rows = [row for row in rows if row["summary"] and not math.isnan(row["summary"][key])]
    colours = [INBOXD if row["name"].startswith("inboxd") else FLOOR if row["name"] == "floor" else PEER for row in rows]
    containers = axes.barh([row["title"] for row in rows], [row["summary"][key] for row in rows], color=colours)
    axes.bar_label(containers, fmt=number_format, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.15)
    if is_log:
        axes.set_xscale("log")


def main() -> None:
    """Draw the chart of a results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("image", type=Path)
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text("utf-8"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    files = f"{results['arguments']['files']:,} files of 4 KiB"
    draw_bars(left, results["peers"], "rate", f"files/s, {files}", "{:,.0f}", is_log=False)
    draw_bars(right, results["peers"], "lone_p50", "lone file, close to done/: median ms (log)", "{:,.1f}", is_log=True)
    figure.savefig(arguments.image, dpi=110)


if __name__ == "__main__":
    main()
