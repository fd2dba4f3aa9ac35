"""The bench's own parts at work: a server, the smallest peer, its files, and nothing left afterwards."""

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


def test_a_peer_s_files_are_counted_and_timed_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    with Running(tmp_path / "run") as running:
        running.start(FLOOR.commands(running.place))
        family = running.tree() | {running.server.pid}

        burst = trials.burst(running, 50)
        alone = trials.lone(running, 3, 10.0)
        beside = trials.beside_traffic(running, 100, 0.5)

    assert (burst.files, burst.arrived, alone.missing, beside.missing) == (50, 50, 0, 0)
    assert burst.drop_seconds < burst.seconds < 10
    assert len(alone.milliseconds) == 3
    assert min(alone.milliseconds) > 0
    assert 0 < beside.traffic < 150
    assert burst.usage.peak_mib > 10
    assert set(burst.usage.by_process) == {"bench.peers.floor.watch", "bench.peers.floor.work"}
    assert not family & processes.table().keys()


def test_files_that_never_arrive_are_counted_as_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "STALL_SECONDS", 0.3)
    with Running(tmp_path / "run") as running:
        running.start(FLOOR.commands(running.place))
        (worker,) = running.find("floor.work")
        os.kill(worker, signal.SIGSTOP)

        burst = trials.burst(running, 20)
        os.kill(worker, signal.SIGCONT)

    assert (burst.files, burst.arrived) == (20, 0)


def test_a_peer_that_ends_at_once_is_told_by_its_last_words(tmp_path: Path) -> None:
    peer = Peer("x", "x", "", lambda _place: (Command("worker", ("sh", "-c", "echo first; echo no such module; exit 3")),))

    with Running(tmp_path / "run") as running, pytest.raises(NotRunning, match="worker has exited with 3: no such module"):
        running.start(peer.commands(running.place))
