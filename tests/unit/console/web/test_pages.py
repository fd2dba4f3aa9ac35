"""The pages, their retries and their refusals, in starlette's client."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from support.disk.failed_files import drop_and_fail
from support.waiting import eventually
from support.web import Page, send_form

from inboxd.console.web import passwords
from inboxd.console.web.guard import HEADERS
from inboxd.console.web.requests import encode_path

HOSTILE = b"\"><script>alert(1)</script>\xff\n\xe2\x80\xae'.pdf"
PASSWORD = "correct horse"
ADDRESSES = (
    "/",
    "/failed",
    "/retry",
    "/retries",
    "/search",
    "/search?q=a.pdf",
    "/file?inbox=one&path=a.pdf",
    "/timeline?q=a.pdf",
    "/nothing",
)


def find_active_parts(text: str) -> list[str]:
    """Return the tags and attributes of a page that the Content-Security-Policy forbids."""
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            is_inline = tag in ("style", "iframe", "img") or (tag == "script" and ("src", "/static/app.js") not in attributes)
            found.extend([tag] if is_inline else [])
            found.extend(name for name, value in attributes if name.startswith(("on", "style")) or "script:" in (value or ""))

    Parser().feed(text)
    return found


def make_locked_page(folder: Path, web: str = "") -> Page:
    passwords.write_hash(folder / "password", passwords.hash_password(PASSWORD), folder)
    return Page(folder, f'password_file = "password"\n{web}')


def log_in(page: Page, browser: TestClient, password: str = PASSWORD, target: str = "/") -> int:
    token = page.token("/login", browser)
    return send_form(browser, "/login", token=token, password=password, next=target).status_code


@pytest.mark.parametrize("address", ADDRESSES)
def test_each_page_is_confined_by_its_headers_and_has_no_inline_script_or_style(page: Page, address: str) -> None:
    drop_and_fail(page.one, HOSTILE, "<img src=x onerror=alert(1)>")
    page.read()

    reply = page.browser.get(address)

    assert {name: reply.headers[name] for name in HEADERS} == HEADERS
    assert reply.headers["cache-control"] == "no-store"
    assert "'unsafe" not in reply.headers["content-security-policy"]
    assert find_active_parts(reply.text) == []


def test_a_hostile_name_and_reason_are_shown_as_text_and_the_file_can_be_opened_and_retried(page: Page) -> None:
    drop_and_fail(page.one, HOSTILE, "<img src=x onerror=alert(1)> \x1b[2J")
    page.read()
    text = page.browser.get("/failed").text

    assert "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\xff\\n\\u202e&#39;.pdf" in text
    assert "&lt;img src=x onerror=alert(1)&gt; \\x1b[2J" in text
    address = re.search(r'href="(/file\?[^"]+)"', text)
    assert address
    assert page.browser.get(address[1].replace("&amp;", "&")).status_code == 200
    reply = page.post("/failed/retry", token=page.token(), inbox="one", path=encode_path(HOSTILE))
    assert reply.status_code == 303
    assert page.one.files("inbox").keys() == {HOSTILE}


@pytest.mark.parametrize(
    "path", [b"../inbox/secret", b"../../settings.toml", b"/etc/passwd", b"a/../../inbox/secret", b".", b"x/"]
)
def test_a_path_that_leads_out_of_failed_is_neither_shown_nor_moved(page: Page, path: bytes) -> None:
    page.one.put(b"inbox/secret")
    before = page.one.files()

    shown = page.browser.get("/file", params={"inbox": "one", "path": path.decode()})
    moved = page.post("/failed/retry", token=form_token(page), inbox="one",
                      path=encode_path(path))  # fmt: skip

    assert shown.status_code == 404
    assert moved.status_code == 303
    assert "was not moved" in page.browser.get("/failed").text
    assert page.one.files() == before


def form_token(page: Page) -> str:
    drop_and_fail(page.two, b"other.pdf")
    page.read()
    return page.token()


def test_an_unknown_inbox_is_not_found(page: Page) -> None:
    assert page.browser.get("/failed?inbox=none").status_code == 404
    assert page.post("/failed/retry", token=form_token(page), inbox="none", path="a").status_code == 404


@pytest.mark.parametrize("token", ["", "0" * 64, "\u00e9"])
@pytest.mark.parametrize("address", ["/failed/retry", "/retry", "/login", "/logout"])
def test_a_form_without_the_sessions_token_changes_nothing(page: Page, address: str, token: str) -> None:
    drop_and_fail(page.one, b"a.pdf")
    page.read()
    page.token()

    reply = page.post(address, token=token, inbox="one", path="a.pdf", until="9e9")

    assert reply.status_code == 403
    assert b"a.pdf" in page.one.failed_files()


def test_a_token_of_another_session_is_refused(page: Page) -> None:
    drop_and_fail(page.one, b"a.pdf")
    page.read()
    stolen = page.token(browser=page.make_browser())
    page.token()

    assert page.post("/failed/retry", token=stolen, inbox="one", path="a.pdf").status_code == 403


@pytest.mark.parametrize(
    ("content_type", "size", "status"), [("text/plain", 1, 415), ("application/x-www-form-urlencoded", 70_000, 413)]
)
def test_what_is_no_form_or_a_long_one_is_refused(page: Page, content_type: str, size: int, status: int) -> None:
    reply = page.browser.post("/retry", content=b"a" * size, headers={"content-type": content_type})

    assert reply.status_code == status


def test_the_list_is_paged_and_filtered(page: Page) -> None:
    for number in range(60):
        drop_and_fail(page.one, b"a%02d.pdf" % number, "no total" if number % 2 else "Connection refused")
    page.read()

    first, last = page.browser.get("/failed").text, page.browser.get("/failed?page=99").text
    filtered = page.browser.get("/failed?reason=REFUSED&inbox=one").text

    assert "Page 1 of 2" in first
    assert "Page 2 of 2" in last
    assert (first.count("<tr>"), last.count("<tr>"), filtered.count("<tr>")) == (51, 11, 31)
    assert "no total</bdi>" not in filtered


def test_all_that_match_are_moved_back_in_the_background_after_a_confirmation_with_their_number(page: Page) -> None:
    for number in range(30):
        drop_and_fail(page.one, b"a%02d.pdf" % number, "Connection refused")
    drop_and_fail(page.one, b"other.pdf", "no total")
    page.read()
    confirmation = page.browser.get("/retry?reason=refused").text
    until = re.search(r'name="until" value="([^"]+)"', confirmation)
    assert until
    assert "Retry 30 failed files?" in confirmation

    reply = page.post("/retry", token=page.token("/retry?reason=refused"), reason="refused", until=until[1])

    assert reply.headers["location"] == "/retries"
    job = page.site.jobs.last
    assert job
    eventually(lambda: not job.is_running)
    assert (job.moved, job.kept, job.error) == (30, 0, "")
    assert page.one.failed_files().keys() == {b"other.pdf"}
    assert len(page.one.files("inbox")) == 30
    assert "Ended: 30 of 30 files" in page.browser.get("/retries").text


def test_a_file_that_failed_after_the_confirmation_is_not_moved(page: Page) -> None:
    drop_and_fail(page.one, b"a.pdf")
    page.read()

    page.post("/retry", token=page.token("/retry"), until="1000000000.0")

    assert page.site.jobs.last is None
    assert "nothing was moved" in page.browser.get("/failed").text


def test_a_file_that_is_gone_is_reported_and_the_others_are_moved(page: Page) -> None:
    drop_and_fail(page.one, b"a.pdf")
    drop_and_fail(page.one, b"b.pdf")
    page.read()
    page.one.where(b"failed/a.pdf").unlink()

    page.post("/retry", token=page.token("/retry"), until="9e9")

    job = page.site.jobs.last
    assert job
    eventually(lambda: not job.is_running)
    assert (job.moved, job.kept, job.problems) == (1, 1, ["one: a.pdf: the file is no longer in failed/"])


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8080", "", "localhost.evil.example"])
def test_another_host_is_refused_on_loopback(page: Page, host: str) -> None:
    assert page.browser.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST"])
def test_names_of_the_loopback_are_accepted(page: Page, host: str) -> None:
    assert page.browser.get("/", headers={"host": host}).status_code == 200


def test_a_proxys_host_is_accepted_if_the_settings_name_it(tmp_path: Path) -> None:
    page = Page(tmp_path, 'hosts = ["inboxd.example.org"]')

    assert page.browser.get("/", headers={"host": "inboxd.example.org"}).status_code == 200


def test_other_methods_are_refused(page: Page) -> None:
    assert page.browser.put("/failed").status_code == 405
    assert page.browser.post("/failed").status_code == 405


def test_without_a_login_every_page_leads_to_the_form_and_back(tmp_path: Path) -> None:
    page = make_locked_page(tmp_path)
    browser = page.browser

    assert browser.get("/failed?inbox=one").headers["location"] == "/login?next=%2Ffailed%3Finbox%3Done"
    assert browser.get("/events").status_code == 401
    assert browser.post("/retry").status_code == 401
    assert log_in(page, browser, "wrong password") == 403
    assert browser.get("/failed").status_code == 303
    reply = send_form(browser, "/login", token=page.token("/login"), password=PASSWORD, next="/failed?inbox=one")
    assert reply.headers["location"] == "/failed?inbox=one"
    assert browser.get("/failed").status_code == 200
    send_form(browser, "/logout", token=page.token("/"))
    assert browser.get("/failed").status_code == 303


def test_the_session_changes_at_the_login_and_ends_with_its_password(tmp_path: Path) -> None:
    page = make_locked_page(tmp_path)
    page.browser.get("/login")
    before = page.browser.cookies["inboxd_session"]
    log_in(page, page.browser)

    assert page.browser.cookies["inboxd_session"].split(".")[0] != before.split(".")[0]
    passwords.write_hash(tmp_path / "password", passwords.hash_password("another one"), tmp_path)
    assert page.browser.get("/failed").status_code == 303


def test_the_cookie_is_not_for_scripts_or_other_sites_and_is_secure_behind_tls(page: Page) -> None:
    plain = page.make_browser().get("/").headers["set-cookie"]
    secure = page.make_browser().get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]

    assert {"HttpOnly", "SameSite=Strict"} <= set(plain.split("; "))
    assert "Secure" not in plain
    assert secure.endswith("; Secure")


def test_the_sixth_wrong_password_in_a_row_has_to_wait(tmp_path: Path) -> None:
    page = make_locked_page(tmp_path)

    codes = [log_in(page, page.browser, "wrong password") for _ in range(6)]

    assert codes == [403] * 5 + [429]
    assert log_in(page, page.browser) == 429
    assert log_in(page, page.make_browser(("127.0.0.2", 1))) == 303


def test_a_password_file_that_others_can_read_closes_the_page(tmp_path: Path) -> None:
    page = make_locked_page(tmp_path)
    (tmp_path / "password").chmod(0o644)

    assert page.browser.get("/").status_code == 503


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 303)])
def test_the_proxys_header_counts_from_this_host_only(tmp_path: Path, address: str, status: int) -> None:
    page = make_locked_page(tmp_path, 'trusted_header = "X-Remote-User"\nlisten = "0.0.0.0:8080"')

    reply = page.make_browser((address, 1)).get("/failed", headers={"x-remote-user": "ann"})

    assert reply.status_code == status


def test_without_the_proxys_header_nobody_enters(tmp_path: Path) -> None:
    page = Page(tmp_path, 'trusted_header = "X-Remote-User"')

    assert page.browser.get("/").status_code == 403
    assert page.browser.get("/", headers={"x-remote-user": ""}).status_code == 403
    assert page.browser.get("/", headers={"x-remote-user": "ann"}).status_code == 200


def test_a_static_file_is_sent_once(page: Page) -> None:
    first = page.browser.get("/static/style.css")

    again = page.browser.get("/static/style.css", headers={"if-none-match": first.headers["etag"]})

    assert (first.status_code, again.status_code) == (200, 304)
    assert page.browser.get("/static/../app.py").status_code == 404


def test_the_overview_shows_what_status_reports(page: Page) -> None:
    page.one.put(b"inbox/a.pdf")
    drop_and_fail(page.one, b"b.pdf")
    page.read()
    page.site.poller.read()

    text = page.browser.get("/").text

    assert "the broker is unavailable" in text
    assert re.search(r"<dt>waiting</dt><dd>1</dd>", text)
    assert 'href="/failed?inbox=one">1<' in text


@pytest.mark.parametrize("query", ["ROOT/failed/a.pdf", "a.pdf", "failed/a.pdf"])
def test_a_search_finds_a_file_and_why_it_failed(page: Page, query: str) -> None:
    drop_and_fail(page.one, b"a.pdf", "no total")
    page.read()

    text = page.browser.get("/search", params={"q": query.replace("ROOT", str(page.one.root))}).text

    assert "no total" in text
    assert "path=a.pdf" in text


@pytest.mark.parametrize("query", ["/etc/passwd", "../../etc/passwd", "nothing.pdf", "[", "%ff", "*"])
def test_a_search_for_what_is_not_there_finds_nothing(page: Page, query: str) -> None:
    reply = page.browser.get("/search", params={"q": query})

    assert reply.status_code == 200
    assert "No file in the folders is found" in reply.text
    assert "path=" not in reply.text.partition("<main")[2]
