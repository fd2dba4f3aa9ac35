"""Scale: a million files, idle inboxes, one large file, a slow handler, many inboxes and sub-folders; each beside its limits.

Run it with `make bench-scale`, or one scenario: `make bench-scale ARGS="million --files 100000"`. inboxd is started by
`inboxd up` on a fresh Valkey, with default settings except settle_seconds = 0. Exit code 1 when a limit is missed.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.peers.peer import BUILD
from bench.peers.running import NotRunning
from bench.report.verdict import Verdict
from bench.scale import idle, large, many, million, parallel

Scenario = Callable[[Path, argparse.Namespace], list[Verdict]]


def parse(argv: Sequence[str] | None) -> list[argparse.Namespace]:
    """Read the command line; without a scenario, return all with their own numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenarios = parser.add_subparsers(dest="scenario")

    def add(name: str, run: Scenario, text: str | None, **numbers: int) -> None:
        scenario = scenarios.add_parser(name, help=text)
        scenario.set_defaults(run=run)
        for option, default in numbers.items():
            scenario.add_argument(f"--{option}", type=int, default=default)

    add("idle", idle.run, idle.__doc__, inboxes=100, seconds=60)
    add("parallel", parallel.run, parallel.__doc__)
    add("large", large.run, large.__doc__, gigabytes=2, repeats=5)
    add("inboxes", many.inboxes, many.inboxes.__doc__, inboxes=1000)
    add("tree", many.tree, many.tree.__doc__, folders=10_000, files=100_000)
    add("million", million.run, million.__doc__, files=1_000_000)
    arguments = parser.parse_args(argv)
    return [arguments] if arguments.scenario else [parser.parse_args([name]) for name in scenarios.choices]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; print, keep, and return the exit code."""
    kept, good = BUILD / "scale.json", True
    found = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    for arguments in parse(argv):
        BUILD.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="run-", dir=BUILD))
        print(f"{arguments.scenario}:", flush=True)
        try:
            verdicts = arguments.run(work / arguments.scenario, arguments)
        except NotRunning as error:
            print(f"- {error} MISSED", flush=True)
            good = False
            continue
        finally:
            shutil.rmtree(work)
        for verdict in verdicts:
            print(f"- {verdict.words}", flush=True)
        good &= all(verdict.good for verdict in verdicts)
        numbers = {key: value for key, value in vars(arguments).items() if isinstance(value, int)}
        found[arguments.scenario] = {"when": time.time(), **numbers, "verdicts": [asdict(verdict) for verdict in verdicts]}
        kept.write_text(json.dumps(found, indent=1), "utf-8")
    return int(not good)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # whatever was started is ended, too; a shell's background ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
