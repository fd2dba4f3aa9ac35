"""Real servers on loopback that write into an inbox: OpenSSH, Samba, vsftpd, Apache's WebDAV; and one to download from."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.free_port import free_port

START_SECONDS = 60.0


@dataclass(frozen=True)
class Servers:
    """The servers' ports, the SSH client's options, and the folders: the inbox that they write to, and what they offer."""

    inbox: Path
    offered: Path
    ssh_port: int
    ssh_options: tuple[str, ...]
    smb_port: int
    ftp_port: int
    http_port: int


@contextmanager
def running_servers(folder: Path, inbox: Path, offered: Path) -> Iterator[Servers]:
    """Run all servers until the block ends. ``offered`` is served by HTTP at /offered."""
    ports = [free_port() for _ in range(4)]
    with ExitStack() as stack:
        for name, argv in (
            ("sshd", ssh_server(folder, ports[0])),
            ("smbd", _samba(folder, inbox, ports[1])),
            ("vsftpd", _ftp(folder, inbox, ports[2])),
            ("apache2", _apache(folder, inbox, offered, ports[3])),
        ):
            stack.enter_context(_running(name, argv, folder))
        for port in ports:
            _await_listener(port)
        key = folder / "client_key"
        options = (
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
            "-i",
            str(key),
        )
        yield Servers(inbox, offered, ports[0], options, ports[1], ports[2], ports[3])


@contextmanager
def _running(name: str, argv: list[str], folder: Path) -> Iterator[None]:
    with (folder / f"{name}.out").open("wb") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def _await_listener(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while f":{port:04X} 00000000:0000 0A" not in Path("/proc/net/tcp").read_text("ascii") and (
        f":{port:04X} 00000000000000000000000000000000:0000 0A" not in Path("/proc/net/tcp6").read_text("ascii")
    ):
        assert time.monotonic() < deadline, f"no server listens on port {port}"
        time.sleep(0.05)


def ssh_server(folder: Path, port: int) -> list[str]:
    """Return the command of OpenSSH's server on a port, with keys in a folder."""
    for name in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/client_key.pub\nPermitRootLogin yes\nMaxStartups 200\nMaxSessions 200\n"
        "Subsystem sftp internal-sftp\n"
    )
    return ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]


def _samba(folder: Path, inbox: Path, port: int) -> list[str]:
    state = folder / "samba"
    state.mkdir()
    config = folder / "smb.conf"
    folders = "".join(
        f"  {name} = {state}\n"
        for name in ("private dir", "lock directory", "state directory", "cache directory", "pid directory")
    )
    config.write_text(
        f"[global]\n{folders}  interfaces = lo\n  bind interfaces only = yes\n  smb ports = {port}\n  disable netbios = yes\n"
        f"  map to guest = Bad User\n  load printers = no\n  log file = {folder}/samba.log\n"
        f"[drop]\n  path = {inbox}\n  guest ok = yes\n  force user = root\n  read only = no\n"
    )
    return ["/usr/sbin/smbd", "--foreground", "--no-process-group", "-s", str(config), "-p", str(port)]


def _ftp(folder: Path, inbox: Path, port: int) -> list[str]:
    empty = folder / "empty"
    empty.mkdir()
    config = folder / "vsftpd.conf"
    config.write_text(
        f"listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nanonymous_enable=YES\nanon_root={inbox.parent}\n"
        "no_anon_password=YES\nwrite_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n"
        f"anon_other_write_enable=YES\nanon_umask=022\nsecure_chroot_dir={empty}\nbackground=NO\nseccomp_sandbox=NO\n"
        "pasv_address=127.0.0.1\nxferlog_enable=NO\nmdtm_write=YES\nallow_writeable_chroot=YES\n"
    )
    return ["/usr/sbin/vsftpd", str(config)]


def _apache(folder: Path, inbox: Path, offered: Path, port: int) -> list[str]:
    modules = Path("/usr/lib/apache2/modules")
    names = ("mpm_event", "authz_core", "dav", "dav_fs", "alias", "dir", "env", "ratelimit")
    loads = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in names)
    lock = folder / "dav"
    lock.mkdir(mode=0o777)
    lock.chmod(0o777)
    config = folder / "apache.conf"
    config.write_text(
        f"ServerRoot {folder}\nServerName localhost\nListen 127.0.0.1:{port}\n{loads}User www-data\nGroup www-data\n"
        f"PidFile {folder}/apache.pid\nErrorLog {folder}/apache.log\nDavLockDB {lock}/lock\n"
        f"Alias /dav {inbox}\nAlias /offered {offered}\n<Directory {inbox}>\nDav On\nRequire all granted\n</Directory>\n"
        f"<Directory {offered}>\nRequire all granted\nSetOutputFilter RATE_LIMIT\nSetEnv rate-limit 512\n"
        "ForceType application/octet-stream\n</Directory>\n"
    )
    return ["/usr/sbin/apache2", "-f", str(config), "-DFOREGROUND"]
