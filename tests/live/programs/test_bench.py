"""The bench on the smallest peer: it counts and times files, and leaves no process behind."""

import os
import signal
from pathlib import Path

import pytest

from bench.measure import processes, trials
from bench.peers.peer import Command, Peer
from bench.peers.roster import BY_NAME
from bench.peers.running import NotRunning, Running

pytestmark = pytest.mark.live

FLOOR = BY_NAME["floor"]


def test_a_peers_files_are_counted_and_timed_and_none_of_its_processes_remains(tmp_path: Path) -> None:
    with Running(tmp_path / "run") as running:
        running.start(FLOOR.commands(running.place))
        pids = running.tree() | {running.server.pid}

        burst = trials.burst(running, 50)
        lone = trials.lone(running, 3, 10.0)
        amid_traffic = trials.beside_traffic(running, 100, 0.5)

    assert (burst.files, burst.arrived, lone.missing, amid_traffic.missing) == (50, 50, 0, 0)
    assert burst.drop_seconds < burst.seconds < 60
    assert len(lone.milliseconds) == 3
    assert min(lone.milliseconds) > 0
    assert 0 < amid_traffic.traffic < 150
    assert burst.usage.peak_mib > 10
    assert set(burst.usage.by_process) == {"bench.peers.floor.watch", "bench.peers.floor.work"}
    assert not pids & processes.table().keys()


def test_files_that_never_arrive_are_counted_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "STALL_SECONDS", 0.3)
    with Running(tmp_path / "run") as running:
        running.start(FLOOR.commands(running.place))
        (worker,) = running.find("floor.work")
        os.kill(worker, signal.SIGSTOP)

        burst = trials.burst(running, 20)
        os.kill(worker, signal.SIGCONT)

    assert (burst.files, burst.arrived) == (20, 0)


def test_the_error_of_a_peer_that_exits_at_once_quotes_its_last_output_line(tmp_path: Path) -> None:
    peer = Peer("x", "x", "", lambda _place: (Command("worker", ("sh", "-c", "echo first; echo no such module; exit 3")),))

    with Running(tmp_path / "run") as running, pytest.raises(NotRunning, match="worker has exited with 3: no such module"):
        running.start(peer.commands(running.place))
