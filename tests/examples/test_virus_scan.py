"""examples/virus-scan with a real clamd of its own: clean files pass, an infected one is rejected, without clamd all wait."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.examples.example_stand import ExampleStand
from support.live.stand import Program

pytestmark = pytest.mark.examples

MakeExample = Callable[..., ExampleStand]

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
CONFIGURATION = "/etc/clamav/clamd.conf"
USER = "clamav" if os.geteuid() == 0 else ""


@pytest.fixture
def clamd_folder() -> Iterator[Path]:
    """Yield a folder that clamd's user can read, with a configuration and a database of one signature."""
    folder = Path(tempfile.mkdtemp(prefix="inboxd-clamd-"))
    try:
        (folder / "signatures").mkdir()
        (folder / "signatures" / "test.ndb").write_text(f"Eicar-Test:0:0:{EICAR.hex()}\n")
        lines = [
            f"LocalSocket {folder}/clamd.sock", "LocalSocketMode 666", f"DatabaseDirectory {folder}/signatures",
            "Foreground yes", "MaxThreads 2", "LogVerbose yes",
        ]  # fmt: skip
        (folder / "clamd.conf").write_text("\n".join(lines) + "\n")
        folder.chmod(0o755)
        if USER:
            shutil.chown(folder, USER)
        yield folder
    finally:
        shutil.rmtree(folder)


def clamd_of(stand: ExampleStand, folder: Path) -> Program:
    """Return a clamd that does not run as the stand's user, if the tests may choose one: it can't open claimed files."""
    path = folder / "clamd.sock"

    def answers(_start: int) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(path)) == 0 and client.send(b"nPING\n") > 0 and client.recv(10) == b"PONG\n"

    switch = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups") if USER else ()
    return stand.program("clamd", (*switch, _clamd(), f"--config-file={folder}/clamd.conf"), answers)


def _clamd() -> str:
    path = shutil.which("clamd") or shutil.which("clamd", path="/usr/sbin")
    return path or pytest.fail("no clamd found: apt install clamav-daemon clamdscan")


def test_clean_files_pass_and_infected_ones_are_rejected_by_name(make_example: MakeExample, clamd_folder: Path) -> None:
    stand = make_example("virus-scan", {CONFIGURATION: f"{clamd_folder}/clamd.conf"})
    clamd_of(stand, clamd_folder).start()
    stand.start()
    large = os.urandom(200_000)

    stand.drop(b"letters/$(id) clean.txt", b"a clean file", "uploads")
    stand.drop(b"large.bin", large, "uploads")
    stand.drop(b"eicar.com", EICAR, "uploads")
    stand.drop(b"too-large.bin", bytes(25 * 1024**2 + 1), "uploads")
    stand.wait_filed("uploads", done=2, failed=2)

    assert stand.outputs("uploads") == {"large.bin": large, "letters/$(id) clean.txt": b"a clean file"}
    assert stand.reason("eicar.com", "uploads") == "Reason: eicar.com: Eicar-Test.UNOFFICIAL FOUND"
    assert stand.path("failed", b"eicar.com", "uploads").read_bytes() == EICAR
    assert not stand.log_events("file_retried")
    # what is larger than Debian's limit, clamd would report as clean
    assert "MaxFileSize 25M" in Path(CONFIGURATION).read_text("utf-8").splitlines()
    assert "at most 25000000 bytes" in stand.reason("too-large.bin", "uploads")


def test_without_clamd_files_are_tried_again_until_it_is_back(make_example: MakeExample, clamd_folder: Path) -> None:
    stand = make_example("virus-scan", {CONFIGURATION: f"{clamd_folder}/clamd.conf"})
    clamd = clamd_of(stand, clamd_folder)
    stand.start()

    stand.drop(b"clean.txt", b"a clean file", "uploads")
    stand.drop(b"eicar.com", EICAR, "uploads")
    stand.wait_until(lambda: len(stand.log_events("file_retried", stand.worker)) >= 4)
    assert not stand.names("done", "uploads")
    assert not stand.names("failed", "uploads")
    clamd.start()
    stand.wait_filed("uploads", done=1, failed=1)

    assert stand.outputs("uploads") == {"clean.txt": b"a clean file"}
    assert "FOUND" in stand.reason("eicar.com", "uploads")
    assert (
        "step 1 of 2, command clamdscan: clamdscan ended with exit code 2"
        in stand.log_events("file_retried", stand.worker)[0]["why"]
    )
