"""A real Redis with TLS and access control lists in a box, reachable from other boxes."""

from pathlib import Path

from support.boxes.box import Box
from support.boxes.installed import SETTINGS
from support.repository import REPOSITORY

FOLDER = "/etc/tls-redis"
UNIT = """\
[Service]
Environment=LD_LIBRARY_PATH={libraries}
ExecStart=/opt/tls-redis/redis-server --port 0 --bind {address} --tls-port 6380 --tls-auth-clients no \\
  --tls-cert-file {folder}/server.crt --tls-key-file {folder}/server.key --tls-ca-cert-file {folder}/ca.crt \\
  --aclfile {folder}/users.acl --save "" --appendonly yes --dir /var/lib/tls-redis
StateDirectory=tls-redis
"""


def start_tls_redis(owner: Box, address: str, *others: Box) -> str:
    """Start the server with the user of `inboxd redis-acl`, give all boxes its certificate; return the URL for the user."""
    for folder in (FOLDER, "/opt/tls-redis"):
        owner.path(folder).mkdir()
    owner.run("cp", "/mnt/redis/usr/bin/redis-check-rdb", "/opt/tls-redis/redis-server")  # one program under several names
    _make_certificates(owner, address)
    url = f"rediss://inboxd:a%20secret@{address}:6380/0?ssl_ca_certs=/etc/inboxd/redis-ca.crt"
    rule = owner.run(
        "env", f"INBOXD_REDIS__URL={url}", f"INBOXD_SETTINGS={SETTINGS}", "/opt/inboxd/current/bin/inboxd", "redis-acl"
    ).stdout
    owner.path(f"{FOLDER}/users.acl").write_text(f"user default off\nuser admin on >admin ~* &* +@all\n{rule}")
    owner.path("/etc/systemd/system/tls-redis.service").write_text(
        UNIT.format(libraries=_libraries(), address=address, folder=FOLDER)
    )
    owner.run("systemctl", "daemon-reload")
    owner.run("systemctl", "start", "tls-redis")
    certificate = owner.path(f"{FOLDER}/ca.crt").read_text()
    for box in (owner, *others):
        box.path("/etc/inboxd/redis-ca.crt").write_text(certificate)
    return f"{url}\n"


def denied_commands(owner: Box, address: str) -> str:
    """Return what the server has denied, as Redis's own client prints it."""
    client = ("env", f"LD_LIBRARY_PATH={_libraries()}", "/mnt/redis/usr/bin/redis-cli", "--tls", "--cacert", f"{FOLDER}/ca.crt")
    as_admin = ("--user", "admin", "--pass", "admin", "--no-auth-warning")
    return owner.run(*client, "-h", address, "-p", "6380", *as_admin, "ACL", "LOG").stdout


def _libraries() -> Path:
    found = next((REPOSITORY / "build/redis/usr/lib").glob("*-linux-gnu")).relative_to(REPOSITORY / "build/redis")
    return Path("/mnt/redis") / found


def _make_certificates(box: Box, address: str) -> None:
    """Make an authority, and a certificate of its for the address."""
    script = f"""
cd {FOLDER}
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj '/CN=Test CA' -keyout ca.key -out ca.crt \\
  -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
openssl req -newkey rsa:2048 -nodes -subj '/CN={address}' -keyout server.key -out server.csr
printf 'subjectAltName=IP:{address}\\nauthorityKeyIdentifier=keyid\\nsubjectKeyIdentifier=hash\\n' >extensions
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out server.crt
"""
    box.run("sh", "-euc", script)
