"""A box: a real systemd, process 1 of namespaces of its own, over an overlay of this machine; nothing of it remains.

Needs root and util-linux. The host's own process 1 need not be systemd, and never hears of the box.
"""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

BOOT_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.05

MASK = (
    "systemd-logind.service",
    "getty.target",
    "systemd-udevd.service",
    "systemd-networkd.service",
    "systemd-timesyncd.service",
    "systemd-resolved.service",
    "postgresql.service",
    "e2scrub_reap.service",
    "ssh.service",
    "cron.service",
)
"""What a box does not need, and a host may have."""

HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
"""Where a cgroup of ours is made: pure version 2, or hybrid."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


class Box:
    """One box: started by ``with``, gone after it.

    ``root`` is the system below it, ``binds`` what it sees besides, ``base`` the snapshot that it begins with, ``changes`` a
    folder with files that are put over it before it boots, and ``snapshot`` an empty folder that gets one at its end.
    """

    def __init__(
        self, root: Path = Path("/"), binds: Mapping[Path, str] | None = None, *,
        base: Path | None = None, changes: Path | None = None, snapshot: Path | None = None,
    ) -> None:  # fmt: skip
        self._root = root
        self._binds = binds or {}
        self._base = base
        self._changes = changes
        self._snapshot = snapshot
        self._cgroups: list[Path] = []
        self._leader = 0

    # start, end

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="inboxd-box-"))
        self._console = self._folder.with_suffix(".console")
        self._make_cgroups()
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "--", "sh", str(Path(__file__).with_suffix(".sh"))],
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        try:
            self._await_boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Halt it, and remove what is left outside."""
        if self._process.poll() is None:
            if self._leader:
                # systemd's own "halt", for a snapshot of files that are whole; else as by a power cut
                os.kill(self._leader, signal.SIGRTMIN + 3 if self._snapshot else signal.SIGKILL)
            else:
                self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own: these are ours alone
                self._process.wait()
        for cgroup in self._cgroups:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                _remove_cgroup(Path(folder))
        self._console.unlink()
        self._folder.rmdir()

    def _make_cgroups(self) -> None:
        for hierarchy in map(Path, HIERARCHIES):
            if os.access(hierarchy / "cgroup.procs", os.W_OK):
                cgroup = hierarchy / self._folder.name
                cgroup.mkdir()
                self._cgroups.append(cgroup)

    def _environment(self) -> dict[str, str]:
        return {
            **ENVIRONMENT,
            "W": str(self._folder),
            "LOWER": str(self._root),
            "BASE": str(self._base or ""),
            "CHANGES": str(self._changes or ""),
            "CGROUPS": " ".join(map(str, self._cgroups)),
            "MASK": " ".join(MASK),
            "BINDS": " ".join(f"{outside}:{inside}" for outside, inside in self._binds.items()),
            "SNAPSHOT": str(self._snapshot or ""),
        }

    def _await_boot(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the box did not boot:\n{self._console.read_text(errors='replace')}")
            self._leader = self._leader or self._find_leader()
            time.sleep(POLL_SECONDS)

    def _is_up(self) -> bool:
        if not self._leader:
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def _find_leader(self) -> int:
        """Return the process that is process 1 in there, once it is systemd: outside, a grandchild of ours."""
        found = self._process.pid
        try:
            while Path(f"/proc/{found}/comm").read_text() != "systemd\n":
                children = Path(f"/proc/{found}/task/{found}/children").read_text().split()
                if not children:
                    return 0
                found = int(children[0])
        except FileNotFoundError:  # one of the commands on the way, just ended
            return 0
        return found

    # inside

    @property
    def leader(self) -> int:
        """The box's process 1, as it is numbered outside."""
        return self._leader

    def run(self, *argv: str, user: str = "", check: bool = True, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the box, as root or as a user with all of the user's groups; fail the test when it fails."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--", *as_user, *argv],
            env=ENVIRONMENT, input=given, text=True, errors="surrogateescape", capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(f"{shlex.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def path(self, inside: str) -> Path:
        """Return the path by which something in the box is reached from outside."""
        return Path(f"/proc/{self._leader}/root") / inside.lstrip("/")

    def show(self, unit: str, key: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--property", key, "--value", unit).stdout.strip()

    def pid(self, unit: str) -> int:
        """Return the main process of a unit, as the box numbers it; 0 when there is none."""
        return int(self.show(unit, "MainPID"))

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Return what the journal holds; matches as for journalctl."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--no-pager", "--quiet", "--all", "--output=json", *matches).stdout.splitlines()
        return [json.loads(line) for line in lines if line]

    def now(self) -> str:
        """Return the argument that leaves out of the journal what came before; its cursors skip an entry where others match."""
        return f"--since=@{time.time():.6f}"

    def wait_until(self, condition: Callable[[], object], seconds: float = 30.0, *, what: str = "") -> None:
        """Wait until a condition holds; fail the test with the journal's end if that takes longer."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                last = self.run("journalctl", "--no-pager", "--lines=60", "--output=short", check=False).stdout
                pytest.fail(f"not within {seconds} s: {what or 'the condition'}\n{last}")
            time.sleep(POLL_SECONDS)


def _remove_cgroup(folder: Path) -> None:
    """Remove one cgroup; the kernel may need a moment after its last process."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{folder} is still used"
            time.sleep(POLL_SECONDS)
        else:
            return
