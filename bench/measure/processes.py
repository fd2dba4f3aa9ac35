"""Read the processor time and memory of process trees from /proc."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
INTERPRETERS, ROLES = ("python", "node"), ("worker", "beat", "up")
_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _FIRST_TIME, _LAST_TIME = 1, 11, 15
"""Indices after the name in /proc/PID/stat: ppid; utime to cstime."""


@dataclass(frozen=True)
class Process:
    """A process: its pid, its parent's pid, and its CPU seconds with those of the children that it has reaped."""

    pid: int
    parent: int
    cpu_seconds: float


def table(proc: Path = PROC) -> dict[int, Process]:
    """Return all processes by pid."""
    by_pid = {}
    for entry in proc.iterdir():
        if entry.name.isdigit():
            try:
                process = parse((entry / "stat").read_text("utf-8", "replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue
            by_pid[process.pid] = process
    return by_pid


def parse(stat: str) -> Process:
    """Parse a line of /proc/PID/stat, in which the process's name may contain spaces and brackets."""
    pid, _, rest = stat.partition(" (")
    fields = rest.rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[_FIRST_TIME:_LAST_TIME])
    return Process(int(pid), int(fields[_PARENT]), ticks / _TICKS)


def tree(roots: Iterable[int], processes: Mapping[int, Process]) -> set[int]:
    """Return the pids of these processes and of all their descendants."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int], processes: Mapping[int, Process]) -> float:
    """Return the CPU seconds of process trees; an exited child's time is counted by its parent once reaped."""
    return sum(processes[pid].cpu_seconds for pid in tree(roots, processes))


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the processes' PSS, which counts shared pages once."""
    return sum(_kib(pid, "smaps_rollup", "Pss:") for pid in pids) * 1024


def rss_bytes(pid: int) -> int:
    """Return a process's resident memory, including shared pages."""
    return _kib(pid, "status", "VmRSS:") * 1024


def peak_rss_bytes(pid: int) -> int:
    """Return a process's peak resident memory, including shared pages."""
    return _kib(pid, "status", "VmHWM:") * 1024


def reset_peak(pid: int) -> None:
    """Reset a process's peak resident memory to its current one."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def label(pid: int, processes: Mapping[int, Process]) -> str:
    """Return the module or script that a process runs, with "(fork)" if its parent's command line is the same."""
    words = command(pid).split()
    parent = processes[pid].parent if pid in processes else 0
    fork = " (fork)" if words and command(parent).split() == words else ""
    if "-m" in words:
        words = words[words.index("-m") + 1 :]
    elif words and Path(words[0]).name.startswith(INTERPRETERS):
        words = words[1:]
    names = [Path(word).name for word in words if word in ROLES or not word.startswith("-")]
    return " ".join([*names[:1], *(word for word in names[1:] if word in ROLES)]) + fork


def command(pid: int) -> str:
    """Return a process's command line; "" if the process has exited."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _kib(pid: int, file: str, key: str) -> int:
    try:
        lines = (PROC / str(pid) / file).read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(key)), 0)
