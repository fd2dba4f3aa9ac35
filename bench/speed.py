"""Speed comparison of inboxd and its peers, each on a fresh Valkey: throughput, latency, processor time and memory.

Run `make bench`, or with options: `make bench ARGS="--files 2000 --repeats 3 --only celery,inboxd"`. The medians of interleaved
repeats are reported. The results, a table and a chart are saved in build/bench; --publish copies table and chart into docs/.
The exit code is 1 if inboxd misses a limit, 3 if a peer could not be measured.
"""

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import trials
from bench.peers import roster
from bench.peers.installing import NotInstalled, install
from bench.peers.peer import BUILD, PYTHON, REPOSITORY, Peer
from bench.peers.running import NotRunning, Running
from bench.report import pages, results
from bench.report.limits import check_limits
from bench.report.results import Row, Run, summarize
from bench.report.table import table

WARM_FILES = 300
"""Files dropped before the measurement, so that all code has run once and the handler's rate is known."""

TRAFFIC_HEADROOM = 1.2
"""The trial with other traffic needs a peer whose throughput is this many times the traffic's rate."""

LIMIT_MISSED, NOT_MEASURED = 1, 3


def run(peer: Peer, folder: Path, arguments: argparse.Namespace) -> Run:
    """Measure one repeat of one peer. Raises NotRunning."""
    with Running(folder) as running:
        running.start(peer.commands(running.place))
        warm = trials.burst(running, WARM_FILES, "warm")
        burst = trials.burst(running, min(arguments.files, max(WARM_FILES, int(warm.rate * arguments.burst_seconds))))
        lone = trials.lone(running, arguments.lone, arguments.lone_seconds)
        with_traffic = None
        if arguments.traffic and burst.rate > arguments.traffic * TRAFFIC_HEADROOM:
            with_traffic = trials.beside_traffic(running, arguments.traffic, arguments.traffic_seconds)
    return Run(burst, lone, with_traffic)


def measure(peers: Sequence[Peer], arguments: argparse.Namespace, work: Path) -> list[Row]:
    """Measure all peers in turn, starting with another one in each repeat; a peer that fails is skipped from then on.

    On Ctrl-C, return the rows measured so far.
    """
    rows = [Row(peer.name, peer.title) for peer in peers]
    for peer, row in zip(peers, rows, strict=True):
        try:
            install(peer.runtime)
        except NotInstalled as error:
            row.error = f"not installed: {error}"
    pairs = [*zip(peers, rows, strict=True)]
    for repeat in range(arguments.repeats):
        first = repeat % len(pairs)
        for peer, row in pairs[first:] + pairs[:first]:
            if row.error:
                continue
            folder = work / f"{peer.name}-{repeat}"
            try:
                row.runs.append(run(peer, folder, arguments))
            except NotRunning as error:
                row.error = f"not measured: {error}"
            except KeyboardInterrupt:
                return rows
            print(f"  {repeat + 1} {peer.title}: {row.error or _describe(row.runs[-1])}", flush=True)
            shutil.rmtree(folder)
    return rows


def _describe(run: Run) -> str:
    summary = summarize([run])
    return f"{summary.rate:,.0f} files/s, lone {summary.lone_p50:.1f} ms, {summary.all_cpu:.2f} CPU s per 1,000"


def measurement_facts(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Return the time, arguments, machine and load of the measurement."""
    model = [line for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if line.startswith("model name")]
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "arguments": {key: value for key, value in vars(arguments).items() if key != "only"},
        "command": f'make bench ARGS="{" ".join(sys.argv[1:])}"',
        "cores": os.cpu_count(),
        "processor": model[0].partition(": ")[2] if model else platform.processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
        "dropper_alone": trials.drop_alone(work, arguments.files),
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="files in the burst")
    parser.add_argument("--burst-seconds", type=float, default=60.0, help="maximum duration: slow peers get fewer files")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(roster.BY_DEFAULT), help=f"peers, of {', '.join(roster.BY_NAME)}")
    parser.add_argument("--lone", type=int, default=200, help="maximum number of lone files in each repeat")
    parser.add_argument("--lone-seconds", type=float, default=20.0, help="maximum duration of the lone files")
    parser.add_argument("--traffic", type=float, default=500.0, help="other files per second beside lone ones; 0: none")
    parser.add_argument("--traffic-seconds", type=float, default=15.0)
    parser.add_argument("--publish", action="store_true", help="copy table and chart into docs/")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.only.split(",")) - roster.BY_NAME.keys():
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit code."""
    arguments = parse(argv)
    BUILD.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=BUILD))
    try:
        facts = measurement_facts(arguments, work)
        rows = measure([roster.BY_NAME[name] for name in arguments.only.split(",")], arguments, work)
    finally:
        shutil.rmtree(work)
    file = BUILD / "results.json"
    results.write(file, rows, facts)
    checks = check_limits({row.name: summarize(row.runs) for row in rows if row.runs})
    page = f"{caption(facts)}\n\n{table(rows)}\n\n" + "\n".join(f"- {check.message}" for check in checks) + "\n"
    (BUILD / "results.md").write_text(page, "utf-8")
    print(f"\n{page}\nresults: {file}")
    _draw(file, BUILD / "throughput.png")
    if arguments.publish:
        pages.publish(page, BUILD / "throughput.png", REPOSITORY / "docs")
    if not all(check.is_met for check in checks):
        return LIMIT_MISSED
    return NOT_MEASURED if any(row.error for row in rows) else 0


def caption(facts: dict[str, Any]) -> str:
    """Return a caption with the measurement's time, machine and size; ``facts`` are from ``measurement_facts``."""
    numbers = facts["arguments"]
    machine = f"{facts['cores']} cores ({facts['processor']}), Linux {facts['kernel']}, Python {facts['python']}"
    return (
        f"`{facts['command']}`, {facts['when'][:10]}: {machine}; {numbers['repeats']} repeats of {numbers['files']:,} files. "
        f"The load average before the start was {facts['load_before']:.1f}; well above 0, other processes affect the figures. "
        f"The dropper alone renames {facts['dropper_alone']:,.0f} files/s."
    )


def _draw(file: Path, image: Path) -> None:
    """Draw the chart, unless matplotlib, one of the Python peers' packages, can't be installed."""
    try:
        install("python")
        subprocess.run([str(PYTHON), str(REPOSITORY / "bench/report/chart.py"), str(file), str(image)], check=True)  # noqa: S603 - our own
    except (NotInstalled, subprocess.CalledProcessError) as error:
        print(f"no chart: {error}")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # `with` then stops all programs; a shell's background ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
