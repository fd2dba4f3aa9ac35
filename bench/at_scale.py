"""Scale tests: a million files, idle inboxes, one large file, a slow handler, many inboxes and sub-folders, each with limits.

Run `make bench-scale`, or one scenario: `make bench-scale ARGS="million --files 100000"`. inboxd is started by `inboxd up` on a
fresh Valkey, with default settings except settle_seconds = 0. The exit code is 1 if a limit is missed.
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
from bench.report.limits import LimitCheck
from bench.scale import idle, large, many, million, parallel

Scenario = Callable[[Path, argparse.Namespace], list[LimitCheck]]


def parse(argv: Sequence[str] | None) -> list[argparse.Namespace]:
    """Return the arguments of the scenario on the command line, or of all scenarios with their defaults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenarios = parser.add_subparsers(dest="scenario")

    def add(name: str, run: Scenario, help_text: str | None, **defaults: int) -> None:
        scenario = scenarios.add_parser(name, help=help_text)
        scenario.set_defaults(run=run)
        for option, default in defaults.items():
            scenario.add_argument(f"--{option}", type=int, default=default)

    add("idle", idle.run, idle.__doc__, inboxes=100, seconds=60)
    add("parallel", parallel.run, parallel.__doc__)
    add("large", large.run, large.__doc__, gigabytes=2, repeats=5)
    add("inboxes", many.inboxes, many.inboxes.__doc__, inboxes=2000)
    add("tree", many.tree, many.tree.__doc__, folders=10_000, files=100_000)
    add("million", million.run, million.__doc__, files=1_000_000)
    arguments = parser.parse_args(argv)
    return [arguments] if arguments.scenario else [parser.parse_args([name]) for name in scenarios.choices]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scenarios, print and save the checks; return the exit code."""
    file, all_met = BUILD / "scale.json", True
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for arguments in parse(argv):
        BUILD.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="run-", dir=BUILD))
        print(f"{arguments.scenario}:", flush=True)
        try:
            checks = arguments.run(work / arguments.scenario, arguments)
        except NotRunning as error:
            print(f"- {error} MISSED", flush=True)
            all_met = False
            continue
        finally:
            shutil.rmtree(work)
        for check in checks:
            print(f"- {check.message}", flush=True)
        all_met &= all(check.is_met for check in checks)
        numbers = {key: value for key, value in vars(arguments).items() if isinstance(value, int)}
        results[arguments.scenario] = {"when": time.time(), **numbers, "checks": [asdict(check) for check in checks]}
        file.write_text(json.dumps(results, indent=1), "utf-8")
    return int(not all_met)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # `with` then stops all programs; a shell's background ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
