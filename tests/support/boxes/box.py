"""A box: a real systemd as process 1 of new namespaces, over a temporary overlay of this machine's file system.

Needs root and util-linux. The host's process 1 need not be systemd.
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
"""Units of a host that a box does not need."""

HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
"""Parents of a box's cgroup: unified (version 2) or hybrid."""

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}


class Box:
    """A context that boots a box and removes it at the end.

    ``root`` is the lower file system, ``binds`` maps folders to their mount points in the box, ``base`` is the snapshot to
    start from, ``changes`` a folder of files to copy over it before the boot, ``snapshot`` an empty folder for a final one.
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

    # start and end

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
        """Halt the box, and remove its cgroups and folders."""
        if self._process.poll() is None:
            if self._leader:
                # systemd's halt signal for a consistent snapshot; otherwise like a power failure
                os.kill(self._leader, signal.SIGRTMIN + 3 if self._snapshot else signal.SIGKILL)
            else:  # with its supervisor, the box's process 1 is killed, too
                os.killpg(self._process.pid, signal.SIGKILL)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)  # start_new_session: the group has only processes of the box
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
        """Return the pid, outside the box, of the box's process 1, once it is systemd; 0 before."""
        pid = self._process.pid
        try:
            while Path(f"/proc/{pid}/comm").read_text() != "systemd\n":
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if not children:
                    return 0
                pid = int(children[0])
        except (FileNotFoundError, ProcessLookupError):  # a command between them has just exited
            return 0
        return pid

    # actions in the box

    @property
    def leader(self) -> int:
        """The pid, outside the box, of the box's process 1."""
        return self._leader

    def run(self, *argv: str, user: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the box as root, or as ``user`` with the user's groups; with ``check``, a failure fails the test."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
        result = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--", *as_user, *argv],
            env=ENVIRONMENT, text=True, errors="surrogateescape", capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        if check and result.returncode:
            pytest.fail(f"{shlex.join(argv)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def path(self, inside: str) -> Path:
        """Return the path outside the box of a path inside."""
        return Path(f"/proc/{self._leader}/root") / inside.lstrip("/")

    def show(self, unit: str, key: str) -> str:
        """Return the value of a unit's property."""
        return self.run("systemctl", "show", "--property", key, "--value", unit).stdout.strip()

    def pid(self, unit: str) -> int:
        """Return the pid, inside the box, of a unit's main process; 0 if there is none."""
        return int(self.show(unit, "MainPID"))

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """Return the journal's entries that match; ``matches`` are arguments of journalctl."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--no-pager", "--quiet", "--all", "--output=json", *matches).stdout.splitlines()
        return [json.loads(line) for line in lines if line]

    def now(self) -> str:
        """Return the journalctl argument for entries from now on; not a cursor, which can skip an entry if others match."""
        return f"--since=@{time.time():.6f}"

    def wait_until(self, condition: Callable[[], object], seconds: float = 90.0, *, goal: str = "") -> None:
        """Wait until a condition holds; after ``seconds``, fail the test with the journal's last lines."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                last = self.run("journalctl", "--no-pager", "--lines=60", "--output=short", check=False).stdout
                pytest.fail(f"not within {seconds} s: {goal or 'the condition'}\n{last}")
            time.sleep(POLL_SECONDS)


def _remove_cgroup(folder: Path) -> None:
    """Remove a cgroup; retry, since the kernel may refuse for a moment after its last process exited."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{folder} is still in use"
            time.sleep(POLL_SECONDS)
        else:
            return
