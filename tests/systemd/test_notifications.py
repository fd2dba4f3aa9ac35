"""Beat's sandbox: with notifications it sees the inboxes and reaches other hosts, without it does neither."""

import json
from typing import Any

import pytest
from support.boxes.box import Box
from support.boxes.installed import BEAT, INBOXD, ROOT, SETTINGS, await_active, exposure

pytestmark = pytest.mark.systemd

SERVER, PORT = "192.0.2.1", "8088"
"""An address that is not this host's loopback for systemd's filter, though it is one of the box."""
URLS, MESSAGES = "/etc/inboxd/notify-urls", "/run/messages"
EXPOSURE_MAX = 1.1


def visible(box: Box, folder: str) -> set[str]:
    """Return what beat sees in a folder."""
    listed = box.run("nsenter", "--target", str(box.pid(BEAT)), "--mount", "ls", folder, check=False)
    return set(listed.stdout.split())


def messages(box: Box) -> list[dict[str, Any]]:
    path = box.path(MESSAGES)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def configure(box: Box) -> None:
    """Start a webhook, name it in a file that only root can read, and synchronize the services."""
    box.run("ip", "address", "add", f"{SERVER}/32", "dev", "lo")
    python, script = "/opt/inboxd/current/bin/python", "/mnt/inboxd/tests/support/boxes/webhook.py"
    box.run("systemd-run", "--quiet", python, script, SERVER, PORT, MESSAGES)
    box.run("install", "-m", "600", "/dev/null", URLS)
    box.path(URLS).write_text(f"json://user:the-password@{SERVER}:{PORT}/\n")
    with box.path(SETTINGS).open("a") as settings:
        settings.write(f'\n[notify]\nurls_file = "{URLS}"\nevery = "2s"\n')
    box.run(INBOXD, "systemd", "sync")
    await_active(box)


def test_beat_notifies_people_and_sees_only_the_inboxes(box: Box) -> None:
    await_active(box)
    box.run("mkdir", "-p", "/srv/private")
    assert visible(box, "/srv") == set()

    configure(box)
    box.run("ln", "-s", "/etc/passwd", f"{ROOT}/inbox/link.txt", user="alice")
    box.wait_until(lambda: messages(box), goal="a message")

    assert messages(box)[0]["title"].endswith(": 1 file failed in drop")
    assert "link.txt: " in messages(box)[0]["message"]
    assert visible(box, "/srv") == {"inboxd"}
    assert exposure(box, BEAT) <= EXPOSURE_MAX
    assert box.run("cat", URLS, user="inboxd", check=False).returncode != 0
    status = json.loads(box.run(INBOXD, "status", "--json").stdout)
    assert [one["to"] for one in status["notify"]] == [f"json://{SERVER}"]
    assert status["problems"] == []
    assert box.run(INBOXD, "notify", "test").stdout == f"json://{SERVER}: sent\n"
    assert "does not fit the settings" not in box.run(INBOXD, "check").stdout
    assert "the-password" not in box.run("journalctl", "--output=cat").stdout
