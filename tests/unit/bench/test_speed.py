import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import speed
from bench.measure.trials import Burst, LoneFiles
from bench.measure.usage import Usage
from bench.peers import installing
from bench.peers.installing import NotInstalled, install
from bench.peers.peer import Peer
from bench.peers.running import NotRunning
from bench.report.results import Run

RUN = Run(Burst(1000, 1000, 1.0, 0.1, Usage(1.0, 0.1, 50.0, 5.0)), LoneFiles([1.0]), LoneFiles([1.0]))


@pytest.fixture(autouse=True)
def temporary_build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(installing, "BUILD", tmp_path)
    monkeypatch.setattr(installing, "NODE", tmp_path / "node")
    yield
    assert not (tmp_path / "node" / installing.DONE).exists()  # so that a failed installation is retried


def test_installing_without_node_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(NotInstalled, match="no node or npm on PATH"):
        install("node")


def test_the_installer_s_last_line_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('a first line\\nno such package')\n", "utf-8")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(npm))

    with pytest.raises(NotInstalled, match=r"^npm exited with 1: no such package$"):
        install("node")


def test_a_failing_peer_has_an_error_and_the_others_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer(name, name, runtime, lambda _place: ()) for name, runtime in [("a", ""), ("b", "node"), ("c", "")]]
    order: list[str] = []

    def run(peer: Peer, folder: Path, _arguments: object) -> Run:
        folder.mkdir()
        order.append(peer.name)
        if order == ["a", "c", "c"]:
            raise NotRunning("worker has exited with 1: oh")
        return RUN

    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(speed, "run", run)

    a, b, c = speed.measure(peers, speed.parse(["--repeats", "4"]), tmp_path)

    assert order == ["a", "c", "c", "a", "a", "a"]
    assert (len(a.runs), a.error) == (4, "")
    assert (len(b.runs), b.error) == (0, "not installed: no node or npm on PATH")
    assert (len(c.runs), c.error) == (1, "not measured: worker has exited with 1: oh")


def test_an_unknown_peer_is_refused() -> None:
    with pytest.raises(SystemExit):
        speed.parse(["--only", "inboxd,nobody"])


def test_an_interrupted_measurement_returns_the_rows_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [Peer(name, name, "", lambda _place: ()) for name in "ab"]
    runs: list[str] = []

    def run(peer: Peer, folder: Path, _arguments: object) -> Run:
        if len(runs) == 3:
            raise KeyboardInterrupt
        runs.append(peer.name)
        folder.mkdir()
        return RUN

    monkeypatch.setattr(speed, "run", run)

    rows = speed.measure(peers, speed.parse([]), tmp_path)

    assert [(row.name, len(row.runs)) for row in rows] == [("a", 1), ("b", 2)]
