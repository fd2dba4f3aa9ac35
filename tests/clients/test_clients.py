"""Real client programs upload into an inbox with the default settings: nothing is taken early, and no client fails.

The test prints the table of docs/clients.md.
"""

import hashlib
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.client_servers import Servers, running_servers
from support.live.stand import Stand

pytestmark = pytest.mark.clients

SIZES = (0, 1, 100_000, 5_000_000, 50 * 1024**2)
SLOW_SERVER_SIZES = SIZES[:-1]
THROTTLED_BYTES = 2_000_000
CLAIMED_SECONDS = 3.5
"""How long after its upload a file is in the hands of its handler."""
SETTLED_SECONDS = 60.0
"""How long after the last upload files may need: an empty file waits for 10 s."""


@dataclass(frozen=True)
class Client:
    """A client program: its command for one file, as a shell line, and how it is slowed down and uploads a tree, if it can.

    A line has the fields ``src`` and ``name`` (below inbox/), and those of ``fields``.
    """

    title: str
    upload: str
    slow: str = ""
    tree: str = ""
    hides_partial: bool = False
    """Whether an interrupted upload leaves nothing, or a name that inboxd ignores."""
    merges: bool = True
    """Whether a tree that is uploaded again goes into the same folder."""
    converts: bool = False
    """Whether it writes another content than it was given: a run into another folder shows which."""
    sizes: tuple[int, ...] = SIZES


SSH = "ssh -p {ssh_port} {ssh_options}"
CLIENTS = (
    Client("cp", "cp {src} {inbox}/{name}", tree="cp -rp {src} {inbox}/{name}", merges=False),
    Client("dd", "dd if={src} of={inbox}/{name} bs=64k status=none"),
    Client("mv from another disk", "cp {src} {shm}/{flat} && mv {shm}/{flat} {inbox}/{name}"),
    Client("tar", "tar -xf {src}.tar -C {inbox} --transform 's,.*,{name},'"),
    Client("unzip", "cd {inbox} && unzip -q -p {src}.zip > {name}"),
    Client("vim (ex)", "ex -s -c 'set binary' -c 'w! {inbox}/{name}' -c 'q!' {src} < /dev/null"),
    Client("scp", "scp -q -P {ssh_port} {ssh_options} {src} root@127.0.0.1:{inbox}/{name}",
           "scp -q -l 4000 -P {ssh_port} {ssh_options} {src} root@127.0.0.1:{inbox}/{name}",
           "scp -q -r -p -P {ssh_port} {ssh_options} {src} root@127.0.0.1:{inbox}/{name}", merges=False),
    Client("scp -O (the old protocol)", "scp -O -q -P {ssh_port} {ssh_options} {src} root@127.0.0.1:{inbox}/{name}",
           "scp -O -q -l 4000 -P {ssh_port} {ssh_options} {src} root@127.0.0.1:{inbox}/{name}"),
    Client("sftp put", "echo 'put {src} {inbox}/{name}' | sftp -q -b - -P {ssh_port} {ssh_options} root@127.0.0.1",
           "echo 'put {src} {inbox}/{name}' | sftp -q -l 4000 -b - -P {ssh_port} {ssh_options} root@127.0.0.1"),
    Client("ssh cat", "cat {src} | " + SSH + " root@127.0.0.1 'cat > {inbox}/{name}'"),
    Client("rsync", "rsync -q -e '" + SSH + "' {src} root@127.0.0.1:{inbox}/{name}",
           "rsync -q --bwlimit=500 -e '" + SSH + "' {src} root@127.0.0.1:{inbox}/{name}",
           "rsync -qa -e '" + SSH + "' {src}/ root@127.0.0.1:{inbox}/{name}/", hides_partial=True),
    Client("rsync -t --partial", "rsync -qt --partial -e '" + SSH + "' {src} root@127.0.0.1:{inbox}/{name}",
           "rsync -qt --partial --bwlimit=500 -e '" + SSH + "' {src} root@127.0.0.1:{inbox}/{name}", hides_partial=True),
    Client("rsync --inplace", "rsync -q --inplace -e '" + SSH + "' {src} root@127.0.0.1:{inbox}/{name}",
           "rsync -q --inplace --bwlimit=500 -e '" + SSH + "' {src} root@127.0.0.1:{inbox}/{name}"),
    Client("smbclient", "smbclient -N -p {smb_port} //127.0.0.1/drop -c 'put {src} {name}' >/dev/null"),
    Client("curl, FTP", "curl -sS -T {src} ftp://127.0.0.1:{ftp_port}/inbox/{name}",
           "curl -sS --limit-rate 500k -T {src} ftp://127.0.0.1:{ftp_port}/inbox/{name}"),
    Client("lftp", "lftp -c 'open ftp://127.0.0.1:{ftp_port}; put {src} -o inbox/{name}'",
           "lftp -c 'set net:limit-rate 500000; open ftp://127.0.0.1:{ftp_port}; put {src} -o inbox/{name}'",
           "lftp -c 'open ftp://127.0.0.1:{ftp_port}; mirror -R {src} inbox/{name}' >/dev/null"),
    Client("curl, WebDAV", "curl -sS -f -o /dev/null -T {src} http://127.0.0.1:{http_port}/dav/{name}",
           "curl -sS -f -o /dev/null --limit-rate 500k -T {src} http://127.0.0.1:{http_port}/dav/{name}", hides_partial=True),
    Client("rclone, sftp", "rclone copyto {src} {rclone_sftp}:{inbox}/{name}",
           "rclone --bwlimit 500k copyto {src} {rclone_sftp}:{inbox}/{name}",
           "rclone copy {src} {rclone_sftp}:{inbox}/{name}"),
    Client("rclone, WebDAV", "rclone copyto {src} ':webdav,url=\"http://127.0.0.1:{http_port}/dav\":{name}'",
           tree="rclone copy {src} ':webdav,url=\"http://127.0.0.1:{http_port}/dav\":{name}'", hides_partial=True),
    Client("wget", "wget -q -O {inbox}/{name} http://127.0.0.1:{http_port}/offered/{flat}", sizes=SLOW_SERVER_SIZES),
    Client("aria2", "aria2c -q --allow-overwrite=true -d {inbox} -o {name} http://127.0.0.1:{http_port}/offered/{flat}",
           hides_partial=True, sizes=SLOW_SERVER_SIZES),
    Client("Chromium, download", "{python} {browser} http://127.0.0.1:{http_port}/offered/{flat} {inbox}",
           hides_partial=True, sizes=SLOW_SERVER_SIZES),
    Client("LibreOffice, convert", "soffice -env:UserInstallation=file://{shm}/office --headless --convert-to txt:Text"
           " --outdir {inbox} {src} >/dev/null 2>&1", converts=True, sizes=(0, 1, 100_000)),
)  # fmt: skip
BROWSER = Path(__file__).parents[1] / "support" / "browser_download.py"


@dataclass
class Row:
    """What happened to the uploads of one client."""

    runs: int = 0
    early: int = 0
    errors: list[str] = field(default_factory=list)
    left: int = 0
    interrupted: str = "-"


class Uploads:
    """Runs the clients, and knows which contents each name may have."""

    def __init__(self, servers: Servers, folder: Path, shm: Path) -> None:
        self.servers, self.folder, self.shm = servers, folder, shm
        self.expected: dict[str, list[str]] = {}
        self.rows = {client.title: Row() for client in CLIENTS}
        self.names: dict[str, str] = {}
        self._lock = threading.Lock()

    def make(self, name: str, size: int, seed: int = 0, first_line: bytes = b"") -> Path:
        """Return a file of text lines to upload as ``name``, in all forms that a client needs."""
        flat = name.replace("/", "_")
        path = self.folder / flat
        path.parent.mkdir(parents=True, exist_ok=True)
        source = random.Random(f"{name} {seed}")
        path.write_bytes(
            first_line if not size else first_line + (b"%032x\n" % source.getrandbits(128)) * (size // 33) + b"x" * (size % 33)
        )
        shutil.copy(path, self.servers.offered / flat)
        subprocess.run(["tar", "-cf", f"{path}.tar", "-C", str(path.parent), path.name], check=True)
        Path(f"{path}.zip").unlink(missing_ok=True)
        subprocess.run(["zip", "-q", "-j", f"{path}.zip", str(path)], check=True)
        return path

    def command(self, line: str, src: Path, name: str, inbox: Path | None = None) -> str:
        servers = self.servers
        options = " ".join(map(shlex.quote, servers.ssh_options))
        rclone = f":sftp,host=127.0.0.1,port={servers.ssh_port},user=root,key_file={self.folder.parent}/servers/client_key"
        return line.format(
            src=src, name=name, flat=name.replace("/", "_"), inbox=inbox or servers.inbox, shm=self.shm,
            ssh_port=servers.ssh_port, ssh_options=options, smb_port=servers.smb_port, ftp_port=servers.ftp_port,
            http_port=servers.http_port, rclone_sftp=rclone, python=sys.executable, browser=BROWSER,
        )  # fmt: skip

    def run(self, client: Client, line: str, src: Path, name: str, *, kill_after: float | None = None) -> None:
        """Run one upload, and record what its name may hold afterwards."""
        whole = self._convert(line, src, name) if client.converts else src
        with self._lock:
            row = self.rows[client.title]
            row.runs += 1
            self.names[name] = client.title
            self.expected.setdefault(name, []).append(_digest(whole.read_bytes()))
        process = subprocess.Popen(
            ["sh", "-c", self.command(line, src, name)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "RCLONE_CONFIG": "/dev/null"},
        )  # fmt: skip
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(process.pid, 9)
            process.communicate()
            return
        output, _ = process.communicate(timeout=300)
        if process.returncode:
            with self._lock:
                row.errors.append(f"{name}: {output.decode(errors='replace').strip()[-300:]}")

    def _convert(self, line: str, src: Path, name: str) -> Path:
        converted = self.folder / "converted"
        subprocess.run(["sh", "-c", self.command(line, src, name, converted)], check=True, timeout=120)
        return converted / name

    def run_client(self, client: Client) -> None:
        """Run all uploads of one client, one after the other."""
        stem = "".join(char if char.isalnum() else "-" for char in client.title)
        for size in client.sizes:
            name = f"{stem}-{size}.txt"
            self.run(client, client.upload, self.make(name, size), name)
        for seed in (1, 2):  # the second replaces the first while that one settles
            name = f"{stem}-again.txt"
            self.run(client, client.upload, self.make(name, 50_000 * seed, seed), name)
        for seed in (1, 2):  # the second comes while the first is handled
            name = f"{stem}-handled.txt"
            self.run(client, client.upload, self.make(name, 1000 * seed, seed, first_line=b"sleep 4\n"), name)
            time.sleep(CLAIMED_SECONDS)
        if client.slow:
            name = f"{stem}-slow.txt"
            self.run(client, client.slow, self.make(name, THROTTLED_BYTES), name)
            name = f"{stem}-again-after-kill.txt"
            source = self.make(name, THROTTLED_BYTES)
            self.run(client, client.slow, source, name, kill_after=1.5)
            self.run(client, client.upload, source, name)
            name = f"{stem}-killed.txt"
            self.run(client, client.slow, self.make(name, THROTTLED_BYTES), name, kill_after=1.5)
        if client.tree:
            tree = self.folder / f"{stem}-tree"
            for number in range(20):
                part = tree / f"day{number % 3}" / f"{number}.txt"
                part.parent.mkdir(parents=True, exist_ok=True)
                part.write_bytes(b"%d of %s" % (number, stem.encode()))
                os.utime(part.parent, (1e9, 1e9))
            for attempt in (1, 2):
                self.run_tree(client, tree, f"{stem}-tree{'' if client.merges else attempt}")
                time.sleep(4.0)  # the first tree is filed meanwhile

    def run_tree(self, client: Client, tree: Path, name: str) -> None:
        """Upload a tree."""
        row = self.rows[client.title]
        with self._lock:
            row.runs += 1
            for path in tree.rglob("*.txt"):
                self.names[f"{name}/{path.relative_to(tree)}"] = client.title
                self.expected.setdefault(f"{name}/{path.relative_to(tree)}", []).append(_digest(path.read_bytes()))
        result = subprocess.run(
            ["sh", "-c", self.command(client.tree, tree, name)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            env={**os.environ, "RCLONE_CONFIG": "/dev/null"}, check=False,
        )  # fmt: skip
        if result.returncode:
            with self._lock:
                row.errors.append(f"{name}: {(result.stdout + result.stderr).decode(errors='replace').strip()[-300:]}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _name_without_number(name: str) -> str:
    """Return the name that a file was dropped under: in done/, a second one has " (2)" before its extension."""
    stem, _, extension = name.rpartition(".")
    return f"{stem.rsplit(' (', 1)[0]}.{extension}" if stem.endswith(")") else name


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """Return a folder that the servers' users can reach: each start of pytest closes the parents of tmp_path."""
    with tempfile.TemporaryDirectory(prefix="inboxd-clients-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def uploads(public_folder: Path) -> Iterator[tuple[Uploads, Stand]]:
    """Run a stand at the default settings, and servers that write into its inbox."""
    defaults = {"settle_seconds": 2.0, "empty_file_seconds": 10.0, "empty_folder_seconds": 600.0, "poll_seconds": 1.0}
    stand_folder = public_folder / "stand"
    stand_folder.mkdir()
    with Stand(stand_folder, {"drop": defaults}) as stand:
        inbox = stand.path("inbox")
        for folder in (stand_folder, inbox.parent.parent, inbox.parent):
            folder.chmod(0o755)
        inbox.chmod(0o777)
        offered, servers_folder, shm = (
            public_folder / "offered",
            public_folder / "servers",
            Path("/dev/shm") / f"clients-{os.getpid()}",
        )
        for folder in (offered, servers_folder, shm):
            folder.mkdir()
        stand.start()
        try:
            with running_servers(servers_folder, inbox, offered) as servers:
                yield Uploads(servers, public_folder / "sources", shm), stand
        finally:
            shutil.rmtree(shm)


def test_real_clients(uploads: tuple[Uploads, Stand]) -> None:
    made, stand = uploads
    (made.folder).mkdir()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(made.run_client, CLIENTS))
    deadline = time.monotonic() + SETTLED_SECONDS
    while stand.names("inbox") and time.monotonic() < deadline:
        time.sleep(0.5)
    _collect(made, stand)

    lines = ["| client | runs | early | client errors | left over | interrupted |", "|---|---|---|---|---|---|"]
    for title, row in made.rows.items():
        lines.append(f"| {title} | {row.runs} | {row.early} | {len(row.errors)} | {row.left} | {row.interrupted} |")
    print("\n".join(lines))  # noqa: T201 - the table
    problems = [f"{title}: {error}" for title, row in made.rows.items() for error in row.errors]
    assert problems == []
    assert {title: row.early for title, row in made.rows.items() if row.early} == {}
    assert {title: row.left for title, row in made.rows.items() if row.left} == {}
    hidden = {client.title for client in CLIENTS if client.hides_partial}
    assert {title for title, row in made.rows.items() if row.interrupted == "filed"} & hidden == set()
    assert stand.names("failed") == set()


def _collect(made: Uploads, stand: Stand) -> None:
    """Count for each client the contents in done/ that were never whole, and the files that are not in done/."""
    filed: dict[str, set[str]] = {}
    for path, digest in stand.tree("done").items():
        name = _name_without_number(os.fsdecode(path))
        filed.setdefault(name, set()).add(digest)
        row = made.rows[made.names[name]]
        if digest not in made.expected[name]:
            if name.endswith("-killed.txt"):
                row.interrupted = "filed"
            else:
                row.early += 1
    for name, digests in made.expected.items():
        row = made.rows[made.names[name]]
        if name.endswith("-killed.txt") and row.interrupted == "-":
            row.interrupted = "not filed"
        if digests[-1] not in filed.get(name, set()) and not name.endswith("-killed.txt"):
            row.left += 1


_: Callable[..., object] = _collect
