"""Speed: inboxd and its peers side by side in one run, each on a fresh Valkey: throughput, latency, processor and memory.

Run it with `make bench`, or with other numbers: `make bench ARGS="--files 2000 --repeats 3 --only celery,inboxd"`. The repeats
are interleaved, and what counts are their medians. All that was measured is kept as JSON under build/bench, with the table and
a chart; --publish puts these into docs/. Exit code 1 when inboxd misses a limit, 3 when a peer could not be measured.
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
from bench.report.results import Row, Run, summary
from bench.report.table import table
from bench.report.verdict import verdicts

WARM_FILES = 300
"""Dropped before anything is measured: all code has run once, and whoever learns a handler's pace knows it."""

FOLLOWS = 1.2
"""Other traffic is tried with peers whose throughput is so many times its rate."""

LIMIT_MISSED, NOT_MEASURED = 1, 3


def run(peer: Peer, folder: Path, arguments: argparse.Namespace) -> Run:
    """Measure one repeat of one peer. Raises NotRunning."""
    with Running(folder) as running:
        running.start(peer.commands(running.place))
        warm = trials.burst(running, WARM_FILES, "warm")
        burst = trials.burst(running, min(arguments.files, max(WARM_FILES, int(warm.rate * arguments.burst_seconds))))
        lone = trials.lone(running, arguments.lone, arguments.lone_seconds)
        beside = None
        if arguments.traffic and burst.rate > arguments.traffic * FOLLOWS:
            beside = trials.beside_traffic(running, arguments.traffic, arguments.traffic_seconds)
    return Run(burst, lone, beside)


def measure(peers: Sequence[Peer], arguments: argparse.Namespace, work: Path) -> list[Row]:
    """Measure all peers in turns, beginning with another one each time; who fails says why, and is left out from then on.

    Ctrl-C ends it early: what was measured until then is returned.
    """
    rows = [Row(peer.name, peer.title) for peer in peers]
    for peer, row in zip(peers, rows, strict=True):
        try:
            install(peer.runtime)
        except NotInstalled as error:
            row.why_not = f"not installed: {error}"
    pairs = [*zip(peers, rows, strict=True)]
    for repeat in range(arguments.repeats):
        turn = repeat % len(pairs)
        for peer, row in pairs[turn:] + pairs[:turn]:
            if row.why_not:
                continue
            folder = work / f"{peer.name}-{repeat}"
            try:
                row.runs.append(run(peer, folder, arguments))
            except NotRunning as error:
                row.why_not = f"not measured: {error}"
            except KeyboardInterrupt:
                return rows
            print(f"  {repeat + 1} {peer.title}: {row.why_not or _words(row.runs[-1])}", flush=True)
            shutil.rmtree(folder)
    return rows


def _words(run: Run) -> str:
    one = summary([run])
    return f"{one.rate:,.0f} files/s, lone {one.lone_p50:.1f} ms, {one.all_cpu:.2f} CPU s per 1,000"


def about(arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Return what the figures were measured on, and with."""
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
    parser.add_argument("--burst-seconds", type=float, default=60.0, help="… fewer for who would take longer than that")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(roster.BY_DEFAULT), help=f"of {', '.join(roster.BY_NAME)}")
    parser.add_argument("--lone", type=int, default=200, help="lone files in each repeat …")
    parser.add_argument("--lone-seconds", type=float, default=20.0, help="… and for how long at most")
    parser.add_argument("--traffic", type=float, default=500.0, help="other files a second beside lone ones; 0: none")
    parser.add_argument("--traffic-seconds", type=float, default=15.0)
    parser.add_argument("--publish", action="store_true", help="put table and chart into docs/")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.only.split(",")) - roster.BY_NAME.keys():
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, keep; return the exit code."""
    arguments = parse(argv)
    BUILD.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=BUILD))
    try:
        facts = about(arguments, work)
        rows = measure([roster.BY_NAME[name] for name in arguments.only.split(",")], arguments, work)
    finally:
        shutil.rmtree(work)
    file = BUILD / "results.json"
    results.write(file, rows, facts)
    judged = verdicts({row.name: summary(row.runs) for row in rows if row.runs})
    page = f"{caption(facts)}\n\n{table(rows)}\n\n" + "\n".join(f"- {verdict.words}" for verdict in judged) + "\n"
    (BUILD / "results.md").write_text(page, "utf-8")
    print(f"\n{page}\nall of it: {file}")
    _draw(file, BUILD / "throughput.png")
    if arguments.publish:
        pages.publish(page, BUILD / "throughput.png", REPOSITORY / "docs")
    if not all(verdict.good for verdict in judged):
        return LIMIT_MISSED
    return NOT_MEASURED if any(row.why_not for row in rows) else 0


def caption(facts: dict[str, Any]) -> str:
    """Say when, where and with what it was measured; ``facts`` are those of ``about``."""
    numbers = facts["arguments"]
    machine = f"{facts['cores']} cores ({facts['processor']}), Linux {facts['kernel']}, Python {facts['python']}"
    return (
        f"`{facts['command']}`, {facts['when'][:10]}: {machine}; {numbers['repeats']} repeats of {numbers['files']:,} files. "
        f"The load was {facts['load_before']:.1f} before it began: much more than 0 means that others had their share. "
        f"The dropper alone drops {facts['dropper_alone']:,.0f} files/s."
    )


def _draw(file: Path, image: Path) -> None:
    """Draw the chart, if what draws it can be had: it comes with the Python peers' packages."""
    try:
        install("python")
        subprocess.run([str(PYTHON), str(REPOSITORY / "bench/report/chart.py"), str(file), str(image)], check=True)  # noqa: S603 - our own
    except (NotInstalled, subprocess.CalledProcessError) as error:
        print(f"no chart: {error}")


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever was started is ended, too; a shell's background ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
