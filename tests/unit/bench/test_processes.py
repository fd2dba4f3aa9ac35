import os
import subprocess
import sys

import pytest

from bench.measure import processes
from bench.measure.processes import Process, cpu_seconds, label, parse, tree

NESTED = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
input()
child.communicate()
"""


def test_a_process_name_with_brackets_and_spaces_does_not_shift_the_fields() -> None:
    line = "77 (a) b (c) S 5 77 77 0 -1 0 0 0 0 0 100 20 3 1 20 0 1 0 900 0 0"

    process = parse(line)

    assert process == Process(77, 5, 124 / os.sysconf("SC_CLK_TCK"))


def test_a_tree_has_all_descendants_and_no_other_process() -> None:
    table = {pid: Process(pid, parent, pid / 10) for pid, parent in [(1, 0), (2, 1), (3, 2), (4, 1), (5, 4)]}

    found = tree([2], table), tree([1, 2], table), tree([9], table)

    assert found == ({2, 3}, {1, 2, 3, 4, 5}, set())


def test_a_tree_s_processor_time_counts_each_process_once() -> None:
    table = {pid: Process(pid, parent, 1.0) for pid, parent in [(1, 0), (2, 1), (3, 2)]}

    assert cpu_seconds([1, 2], table) == 3.0


def test_the_tree_and_memory_of_running_processes_are_read() -> None:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", NESTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())

        found = tree([parent.pid], processes.table())
        pss, rss, peak = processes.pss_bytes(found), processes.rss_bytes(child), processes.peak_rss_bytes(child)
        parent.communicate("\n")

    assert found == {parent.pid, child}
    assert 0 < rss <= peak
    assert pss > rss / 2


def test_the_processor_time_of_an_exited_child_is_counted() -> None:
    before = cpu_seconds([os.getpid()], processes.table())
    burn = "import time\nwhile time.process_time() < 0.3: pass"

    subprocess.run([sys.executable, "-S", "-c", burn], check=True)

    assert cpu_seconds([os.getpid()], processes.table()) - before >= 0.28


def test_an_exited_process_has_no_memory_command_or_tree() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        child.wait()

    assert (processes.pss_bytes([child.pid]), processes.command(child.pid), tree([child.pid], processes.table())) == (
        0,
        "",
        set(),
    )


def test_a_fork_s_label_differs_from_its_parent_s(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = "python -m celery -q -A inboxd worker -c 2"
    commands = {
        1: "python -m inboxd up --settings x",
        2: worker,
        3: worker,
        4: "python -P -m inboxd.watcher",
        5: "node /a/watch.mjs",
    }
    table = {pid: Process(pid, parent, 0.0) for pid, parent in [(1, 0), (2, 1), (3, 2), (4, 1), (5, 1)]}
    monkeypatch.setattr(processes, "command", lambda pid: commands.get(pid, ""))

    labels = [label(pid, table) for pid in sorted(table)]

    assert labels == ["inboxd up", "celery worker", "celery worker (fork)", "inboxd.watcher", "watch.mjs"]
