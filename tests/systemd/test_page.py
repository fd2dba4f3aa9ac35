"""The page as a service: off at first, then serving, and moving failed files back from within its sandbox."""

import pytest
from support.boxes.box import Box
from support.boxes.installed import ROOT, drop, is_done

pytestmark = pytest.mark.systemd

WEB = "inboxd-web.service"
RETRY = """
import http.client, re, urllib.parse
page = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
page.request("GET", "/failed")
reply = page.getresponse()
token = re.search('name="token" value="([0-9a-f]+)"', reply.read().decode())
cookie = reply.headers["Set-Cookie"].partition(";")[0]
form = urllib.parse.urlencode({"token": token[1] if token else "", "inbox": "drop", "path": "hand.txt"})
page.request("POST", "/failed/retry", form, {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"})
print(page.getresponse().status)
"""


def test_the_page_is_off_until_it_is_enabled_and_then_retries_from_its_sandbox(box: Box) -> None:
    assert (box.show(WEB, "ActiveState"), box.show(WEB, "UnitFileState")) == ("inactive", "disabled")

    box.run("systemctl", "enable", "--now", WEB)  # returns once the page is served
    drop(box, "hand.txt")
    box.wait_until(lambda: is_done(box, "hand.txt"), goal="hand.txt is in done/")
    box.run("mv", f"{ROOT}/done/hand.txt", f"{ROOT}/failed/hand.txt")
    box.wait_until(lambda: retry(box) == "303", goal="the page has a form with a token")

    box.wait_until(lambda: is_done(box, "hand.txt"), goal="hand.txt is in done/ again")
    assert box.show(WEB, "NRestarts") == "0"


def retry(box: Box) -> str:
    """Send the form of the list of failed files; return the reply's status."""
    return box.run("/opt/inboxd/current/bin/python", "-c", RETRY).stdout.strip()


def test_a_page_that_runs_is_restarted_by_a_new_installation_and_ends_with_the_others(box: Box) -> None:
    box.run("systemctl", "start", WEB)
    before = box.pid(WEB)

    box.run("/opt/inboxd/current/bin/inboxd", "systemd", "install")

    assert box.pid(WEB) not in (0, before)
    box.run("systemctl", "stop", "inboxd.target")
    box.wait_until(lambda: box.show(WEB, "ActiveState") == "inactive", goal="the page ends with the others")
