"""The parts that decide without acting: filters, links, sessions, the throttle, passwords, the chart, the socket."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.requests import Request

from inboxd.config.tables import Web
from inboxd.console.web import passwords, throttle
from inboxd.console.web.chart import HEIGHT, make_chart
from inboxd.console.web.failure import Failure, FailureFilter, collect, select
from inboxd.console.web.listening import open_socket
from inboxd.console.web.requests import encode_path, encoded_path_of, link, page_of, path_of, query_of
from inboxd.console.web.sessions import LIFETIME_SECONDS, Sessions
from inboxd.console.web.throttle import LoginThrottle
from inboxd.console.web.views.login import safe_target
from inboxd.errors import SettingsError

HOUR = 3600
PATHS = st.binary(min_size=1, max_size=255).filter(lambda path: b"\0" not in path)


def failure(path: bytes, reason: str = "", inbox: str = "one", at: float = 1.0) -> Failure:
    return Failure(inbox, path, reason, at, 1, (1, 1))


def query(address: str) -> dict[str, str]:
    return query_of(Request({"type": "http", "query_string": urlsplit(address).query.encode("ascii"), "headers": []}))


FILES = [failure(b"a.pdf", "Connection refused"), failure(b"b.PDF", "no total", at=2.0), failure(b"\xff", "no total", "two")]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (FailureFilter(), [b"a.pdf", b"b.PDF", b"\xff"]),
        (FailureFilter(inbox="two"), [b"\xff"]),
        (FailureFilter(reason="REFUSED"), [b"a.pdf"]),
        (FailureFilter(reason="no *"), [b"b.PDF", b"\xff"]),
        (FailureFilter(reason="total*"), []),
        (FailureFilter(name=".pdf"), [b"a.pdf", b"b.PDF"]),
    ],
)
def test_a_filter_selects_by_inbox_reason_and_name(wanted: FailureFilter, found: list[bytes]) -> None:
    assert [file.path for file in select(FILES, wanted)] == found


def test_failed_files_are_sorted_and_counted() -> None:
    failures = collect(FILES, 1, {}, is_complete=True, is_truncated=False)

    assert failures.files[0].path == b"b.PDF"
    assert failures.counts == {"one": 2, "two": 1}
    assert failures.reasons == [("no total", 2), ("Connection refused", 1)]


@given(PATHS)
def test_every_path_survives_a_link_and_a_form(path: bytes) -> None:
    address = link("/file", inbox="one", path=path)

    assert address.isascii()
    assert not set(address) & set("<>\"' \n")
    assert path_of(query(address)) == path
    assert encoded_path_of({"path": encode_path(path)}) == path


@pytest.mark.parametrize("raw", ["/x?path=", "/x", "/x?path=a%00b", "/x?" + "a=1&" * 30, "/x?path=%ED%A0%80"])
def test_a_request_without_a_valid_path_is_refused_or_kept_as_bytes(raw: str) -> None:
    if "ED%A0" in raw:
        assert path_of(query(raw)) == b"\xed\xa0\x80"
        return
    with pytest.raises(HTTPException):
        path_of(query(raw))


@pytest.mark.parametrize(("text", "number"), [("3", 3), ("0", 1), ("-1", 1), ("x", 1), ("9" * 5000, 1), ("²", 1)])
def test_a_page_is_a_number_from_1(text: str, number: int) -> None:
    assert page_of({"page": text}) == number


def test_a_session_is_valid_until_its_time_is_over_its_cookie_is_changed_or_the_password_is() -> None:
    now = [1000.0]
    sessions = Sessions(lambda: now[0])
    session = sessions.create(has_password=True)
    cookie = sessions.serialize(session, "hash")

    assert sessions.parse(cookie, "hash") == session
    assert sessions.parse(cookie, "new hash") is None
    assert sessions.parse(cookie.replace(".1.", ".0."), "hash") is None
    assert Sessions().parse(cookie, "hash") is None
    now[0] += LIFETIME_SECONDS
    assert sessions.parse(cookie, "hash") is None


def test_a_form_token_is_bound_to_the_session_and_the_user() -> None:
    sessions = Sessions()
    mine, other = sessions.create(), sessions.create()
    token = sessions.form_token(mine, "ann")

    assert sessions.is_form_token(token, mine, "ann")
    assert not sessions.is_form_token(token, other, "ann")
    assert not sessions.is_form_token(token, mine, "bob")
    assert not sessions.is_form_token("\udcff", mine, "ann")


def test_wrong_passwords_in_a_row_wait_longer_and_longer_and_a_right_one_ends_that() -> None:
    now = [0.0]
    limits = LoginThrottle(lambda: now[0])
    assert [limits.begin_attempt("a") for _ in range(throttle.FREE_ATTEMPTS)] == [0.0] * throttle.FREE_ATTEMPTS

    assert limits.begin_attempt("a") == 2.0
    assert limits.begin_attempt("b") == 0.0
    now[0] += 2.0
    assert limits.begin_attempt("a") == 0.0
    assert limits.begin_attempt("a") == 4.0
    limits.succeed("a")
    assert limits.begin_attempt("a") == 0.0


def test_the_throttle_remembers_a_bounded_number_of_addresses() -> None:
    limits = LoginThrottle()
    for number in range(throttle.ADDRESSES_MAX + 10):
        limits.begin_attempt(str(number))

    assert limits.remembered == throttle.ADDRESSES_MAX


def test_a_password_matches_its_own_line_only(tmp_path: Path) -> None:
    file = tmp_path / "password"
    passwords.write_hash(file, passwords.hash_password("correct horse"), tmp_path)

    line = passwords.read_hash(file)

    assert passwords.is_password("correct horse", line)
    assert not passwords.is_password("wrong horse", line)
    assert not passwords.is_password("", "scrypt:99:99:99:AAAAAAAAAAAAAAAAAAAAAA==:" + "A" * 43 + "=")
    assert file.stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [("not a hash", 0o600, "not a line"), (None, 0o644, "everybody can read"), (None, 0o606, "everybody can write")],
)
def test_a_password_file_that_is_malformed_or_open_to_others_is_refused(
    text: str | None, mode: int, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(text or passwords.hash_password("secret words"))
    file.chmod(mode)

    with pytest.raises(SettingsError, match=problem):
        passwords.read_hash(file)


def test_the_chart_has_24_hours_and_its_highest_bar_fills_it() -> None:
    now = 1_000_000 * HOUR + 5.0
    chart = make_chart({1_000_000: {"done": 6, "failed": 1, "refused": 1}, 999_977: {"done": 4}, 999_976: {"done": 9}}, now)

    assert len(chart.bars) == 24
    assert (chart.done, chart.failed, chart.highest) == (10, 2, 8)
    assert chart.bars[-1].done_height + chart.bars[-1].failed_height == HEIGHT
    assert chart.bars[0].done == 4
    assert sum(bar.done_height > 0 for bar in chart.bars) == 2


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_no_bar_leaves_the_chart(done: int, failed: int, other: int) -> None:
    for bar in make_chart({5: {"done": done, "failed": failed}, 6: {"done": other}}, 6.0 * HOUR).bars:
        assert 0 <= bar.failed_y <= bar.done_y <= HEIGHT
        assert bar.done_y + bar.done_height == pytest.approx(HEIGHT, abs=0.02)


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "/a\nb", "/é", ""])
def test_the_login_leads_to_no_other_site(target: str) -> None:
    assert safe_target(target) == "/"


def test_the_login_leads_back_to_the_wanted_page() -> None:
    assert safe_target("/failed?inbox=one&path=%FF") == "/failed?inbox=one&path=%FF"


def test_a_unix_socket_is_for_its_user_and_group_and_replaces_one_of_a_program_that_ended(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert len(bytes(path)) < 100, "the path is too long for a socket: run the test in a shorter folder"
    web = Web(listen=f"unix:{path}")
    open_socket(web).close()

    with open_socket(web), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(SettingsError, match="can't be used"):
            open_socket(web)


def test_a_file_in_place_of_the_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")

    with pytest.raises(SettingsError, match="can't be used"):
        open_socket(Web(listen=f"unix:{path}"))

    assert path.read_text() == "mine"


def test_an_address_that_is_taken_is_reported_with_its_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SettingsError, match="stop the program that listens there"):
            open_socket(Web(listen=f"127.0.0.1:{taken.getsockname()[1]}"))
