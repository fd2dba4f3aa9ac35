"""Commands and URLs as handlers in the sandbox of the worker: priority, outputs, another host, secrets of root alone."""

import pytest
from support.boxes.box import Box
from support.boxes.installed import INBOXD, SETTINGS, WORKER, await_active

pytestmark = pytest.mark.systemd

SERVER, PORT = "192.0.2.1", "8089"
"""An address that is not this host's loopback for systemd's filter, though it is one of the box."""
RECEIVED, AUTHORIZATION = "/run/received", "/etc/inboxd/hook-authorization"
MADE, SENT = "/srv/inboxd/made", "/srv/inboxd/sent"
CHAINED, ARCHIVED, ARCHIVE = "/srv/inboxd/chained", "/srv/inboxd/archived", "/srv/archive"

SCRIPT = """#!/bin/sh
cp "$INBOXD_FILE_PATH" "$INBOXD_FILE_OUTPUTS/copy.txt"
nice >"$INBOXD_FILE_OUTPUTS/nice.txt"
touch here && rm here
"""
INBOXES = f"""
[inbox.made]
root = "{MADE}"
settle_seconds = 0.5
command = ["/usr/local/bin/make-outputs"]
env = ["INBOXD_FILE_OUTPUTS"]
nice = 5

[inbox.sent]
root = "{SENT}"
settle_seconds = 0.5
url = "http://{SERVER}:{PORT}/"
authorization_file = "{AUTHORIZATION}"
"""


def test_a_command_and_a_url_work_in_the_sandbox(box: Box) -> None:
    await_active(box)
    box.run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
    python, webhook = "/opt/inboxd/current/bin/python", "/mnt/inboxd/tests/support/boxes/webhook.py"
    box.run("systemd-run", "--quiet", python, webhook, SERVER, PORT, RECEIVED, "Bearer of-root")
    box.path("/usr/local/bin/make-outputs").write_text(SCRIPT)
    box.path("/usr/local/bin/make-outputs").chmod(0o755)
    box.run("install", "-m", "600", "/dev/null", AUTHORIZATION)
    box.path(AUTHORIZATION).write_text("Bearer of-root\n")
    with box.path(SETTINGS).open("a") as settings:
        settings.write(INBOXES)
    box.run(INBOXD, "systemd", "sync")
    box.run("systemctl", "restart", WORKER)
    await_active(box)

    for root in (MADE, SENT):
        box.run("sh", "-c", f"echo text >{root}/inbox/a.txt", user="alice")
    for root in (MADE, SENT):
        box.wait_until(lambda root=root: box.path(f"{root}/done/a.txt").is_file(), goal=f"{root}/done/a.txt")
    box.wait_until(lambda: box.path(f"{MADE}/out/nice.txt").is_file(), goal="the outputs")

    assert int(box.path(f"{MADE}/out/nice.txt").read_text()) >= 5
    assert box.path(f"{MADE}/out/copy.txt").read_text() == "text\n"
    assert box.path(RECEIVED).read_text() == "text\n\n"
    assert box.run("stat", "--format=%a %U", f"{MADE}/out").stdout == box.run("stat", "--format=%a %U", f"{MADE}/done").stdout
    assert box.run("cat", AUTHORIZATION, user="inboxd", check=False).returncode != 0
    box.run("systemctl", "reload", WORKER)
    assert "of-root" not in box.run("journalctl", "--unit=inboxd-worker").stdout


PIPELINE = f"""
[inbox.chained]
root = "{CHAINED}"
settle_seconds = 0.5
handler = [
    {{ command = ["grep", "-q", "text", "{{path}}"], reject_codes = [1] }},
    {{ command = ["cp", "{{path}}", "{{outputs}}/copy"] }},
]
out = "inbox:archived"
outputs = "{{name}}"

[inbox.archived]
root = "{ARCHIVED}"
settle_seconds = 0.5
command = ["cp", "{{path}}", "{{outputs}}/copy"]
out = "{ARCHIVE}"
outputs = "{{stem}}/{{name}}"
"""


def test_a_chain_a_pipeline_and_a_folder_of_outputs_in_the_sandbox(box: Box) -> None:
    await_active(box)
    box.run("install", "-d", "-o", "inboxd", "-g", "inboxd", ARCHIVE)
    with box.path(SETTINGS).open("a") as settings:
        settings.write(PIPELINE)
    box.run(INBOXD, "systemd", "sync")
    await_active(box)

    box.run("sh", "-c", f"echo text >{CHAINED}/inbox/a.txt; echo other >{CHAINED}/inbox/b.txt", user="alice")
    box.wait_until(lambda: box.path(f"{ARCHIVE}/a/a.txt").is_file(), goal="the archived file")
    box.wait_until(lambda: box.path(f"{CHAINED}/failed/b.txt").is_file(), goal="the rejected file")
    box.run("systemctl", "reload", WORKER)
    box.wait_until(lambda: "settings_applied" in box.run("journalctl", "--unit=inboxd-worker").stdout, goal="the reload")

    assert box.path(f"{ARCHIVE}/a/a.txt").read_text() == "text\n"
    assert box.path(f"{CHAINED}/done/a.txt").is_file()
    assert box.path(f"{ARCHIVED}/done/a.txt").is_file()
    assert "settings_rejected" not in box.run("journalctl", "--unit=inboxd-worker").stdout
