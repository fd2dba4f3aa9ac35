"""What is said about a Redis that lets in strangers or deletes keys."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.free_port import free_port
from support.valkey import running_server

from inboxd.broker import server_checks
from inboxd.broker.connection import make_client
from inboxd.broker.server_checks import find_server_problems
from inboxd.config.settings import Settings
from inboxd.errors import Finding


def problems(url: str, **redis_settings: object) -> list[Finding]:
    settings = Settings(redis={"url": url, **redis_settings})
    with make_client(settings) as client:
        return find_server_problems(client, settings)


@pytest.fixture
def port() -> Iterator[int]:
    """Yield the port of a server without a password."""
    number = free_port()
    with running_server(number):
        yield number


def test_a_server_on_this_host_without_a_password_is_a_finding(port: int) -> None:
    (finding,) = problems(f"redis://127.0.0.1:{port}/0")

    assert finding.where == f"redis.url, redis://127.0.0.1:{port}/0"
    assert finding.problem.startswith("every local user can connect without a password")
    assert not finding.blocks
    assert "leave redis.url empty" in finding.remedy


def test_on_another_host_it_prevents_the_start(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "_addresses", lambda _host: [ipaddress.ip_address("192.0.2.1")])

    (finding,) = problems(f"redis://localhost:{port}")

    assert finding.problem.startswith("everybody in the network can connect without a password")
    assert finding.blocks


def test_it_may_be_allowed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_checks, "_addresses", lambda _host: [ipaddress.ip_address("192.0.2.1")])

    assert problems(f"redis://localhost:{port}", allow_no_password=True) == []


def test_a_server_that_asks_for_a_password_is_none(port: int) -> None:
    with redis.Redis(port=port) as admin:
        admin.config_set("requirepass", "a secret")
        assert problems(f"redis://:a%20secret@127.0.0.1:{port}") == []
        admin.config_set("requirepass", "")


def test_a_password_that_only_the_url_knows_is_none_for_strangers(port: int) -> None:
    with redis.Redis(port=port) as admin:
        admin.acl_setuser("inboxd", enabled=True, passwords=["+secret"], keys="*", channels="*", categories=["+@all"])

    (finding,) = problems(f"redis://inboxd:secret@127.0.0.1:{port}")

    assert "without a password" in finding.problem


def test_a_socket_is_a_finding_if_everybody_may_open_it(valkey_url: str) -> None:
    socket = Path(valkey_url.removeprefix("unix://"))
    mode = socket.stat().st_mode & 0o777
    try:
        socket.chmod(0o777)
        (finding,) = problems(valkey_url)
        socket.chmod(0o770)
        assert problems(valkey_url) == []
    finally:
        socket.chmod(mode)

    assert "unixsocketperm" in finding.remedy


def test_an_eviction_policy_is_a_finding(port: int) -> None:
    with redis.Redis(port=port) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")

    finding = problems(f"redis://127.0.0.1:{port}", allow_no_password=True)[0]

    assert "maxmemory-policy allkeys-lru" in finding.problem
    assert finding.remedy == "set maxmemory-policy noeviction"
    assert not finding.blocks


@pytest.mark.parametrize("url", ["sentinel://a:26379/mymaster", "redis+sentinel://a:26379"])
def test_sentinel_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(ValueError, match="Sentinel is not supported: after a failover"):
        Settings(redis={"url": url})


@pytest.mark.parametrize(
    ("address", "is_local"), [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False)]
)
def test_which_addresses_are_of_this_host(port: int, monkeypatch: pytest.MonkeyPatch, address: str, is_local: bool) -> None:
    monkeypatch.setattr(server_checks, "_addresses", lambda _host: [ipaddress.ip_address(address)])

    assert [finding.blocks for finding in problems(f"redis://localhost:{port}")] == [not is_local]
