"""Which of two installations with one namespace is refused."""

from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from inboxd.broker.installations import KEY, Installation, Registration, describe_installation, find_conflict
from inboxd.config.settings import Settings
from inboxd.errors import NamespaceConflict

DROP = {"drop": ("/srv/drop", "shop:order")}
FIRST = Installation("1", "alpha", "/etc/a.toml", "alpha", DROP)


def registration(valkey: redis.Redis, valkey_url: str, *installations: Installation) -> Registration:
    """Return a registration that describes the installation by these, one after the other."""
    queue = list(installations)
    return Registration(valkey, Settings(redis={"url": valkey_url}), lambda: queue.pop(0))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (Installation("2", "beta", "/b", "beta", DROP), ""),
        (Installation("2", "beta", "/b", "beta", {"drop": ("/other", "shop:order")}), ""),
        (Installation("2", "alpha", "/b", "alpha", {"drop": ("/other", "shop:order")}), "has the root /srv/drop, here /other"),
        (Installation("2", "beta", "/b", "beta", {"drop": ("/srv/drop", "bank:pay")}), "has the handler shop:order"),
        (Installation("2", "alpha", "/b", "alpha", {"scan": ("/other", "bank:pay")}), ""),
    ],
)
def test_installations_with_the_same_inbox_and_other_settings_conflict(
    valkey: redis.Redis, valkey_url: str, other: Installation, why: str
) -> None:
    registration(valkey, valkey_url, FIRST).register()

    conflict = find_conflict(valkey, other)

    assert why in conflict
    assert bool(conflict) == bool(why)
    if why:
        assert "/etc/a.toml on alpha (id 1)" in conflict
        with pytest.raises(NamespaceConflict, match=r"redis\.namespace"):
            registration(valkey, valkey_url, other).register()
        assert valkey.hkeys(KEY) == [b"1"]
    else:
        registration(valkey, valkey_url, other).register()
        assert sorted(valkey.hkeys(KEY)) == [b"1", b"2"]


def test_the_first_one_is_not_refused_by_a_later_one(valkey: redis.Redis, valkey_url: str) -> None:
    changed = Installation("1", "alpha", "/etc/a.toml", "alpha", {"drop": ("/srv/drop", "shop:other")})
    registration(valkey, valkey_url, FIRST).register()
    registration(valkey, valkey_url, Installation("2", "beta", "/b", "beta", DROP)).register()

    registration(valkey, valkey_url, changed).register()  # it restarts with other settings: its neighbour came later

    with pytest.raises(NamespaceConflict):
        registration(valkey, valkey_url, Installation("2", "beta", "/b", "beta", DROP)).register()


def test_a_conflict_after_a_reload_ends_nothing(valkey: redis.Redis, valkey_url: str) -> None:
    second = Installation("2", "beta", "/b", "beta", DROP)
    changed = Installation("2", "beta", "/b", "beta", {"drop": ("/srv/drop", "bank:pay")})
    registration(valkey, valkey_url, FIRST).register()
    program = registration(valkey, valkey_url, second, changed, changed, second, changed)

    with capture_logs() as lines:
        for _ in range(5):
            program.register()

    assert [line["event"] for line in lines] == ["installation_conflict"] * 2
    assert "/etc/a.toml on alpha" in str(lines[0]["why"])


def test_one_that_has_ended_is_forgotten(valkey: redis.Redis, valkey_url: str) -> None:
    registration(valkey, valkey_url, FIRST).register()
    value = valkey.hget(KEY, "1")
    assert isinstance(value, bytes)
    since, last, table = value.split(b" ", 2)
    valkey.hset(KEY, "1", b"%s %d %s" % (since, int(last) - 60_000, table))

    assert find_conflict(valkey, Installation("2", "alpha", "/b", "alpha", {"drop": ("/other", "bank:pay")})) == ""
    assert valkey.hlen(KEY) == 0


@pytest.mark.parametrize("junk", [b"junk", b"1 2", b"99999999999999 99999999999999 []", b"\xff \xff", b"1 1 {}", b""])
def test_junk_is_no_installation(valkey: redis.Redis, valkey_url: str, junk: bytes) -> None:
    valkey.hset(KEY, mapping={"junk": junk, b"\xff": junk})

    registration(valkey, valkey_url, FIRST).register()

    assert find_conflict(valkey, Installation("2", "beta", "/b", "beta", DROP)) == ""


def test_its_id_depends_on_the_settings_file(tmp_path: Path) -> None:
    settings = Settings(host="here", inbox={"drop": {"root": str(tmp_path)}})
    ids = {describe_installation(settings, tmp_path / name).id for name in ("a", "b", "a")}
    assert len(ids) == 2


def test_a_huge_entry_and_a_flood_are_removed(valkey: redis.Redis, valkey_url: str) -> None:
    valkey.hset(KEY, "huge", b"1 99999999999999 [" + b"[]," * 400_000)
    registration(valkey, valkey_url, FIRST).register()
    assert valkey.hkeys(KEY) == [b"1"]

    valkey.hset(KEY, mapping={str(number): "junk" for number in range(1001)})
    registration(valkey, valkey_url, FIRST).register()
    assert valkey.hkeys(KEY) == [b"1"]


def test_a_forged_root_can_not_write_a_line_of_its_own(valkey: redis.Redis, valkey_url: str) -> None:
    registration(valkey, valkey_url, Installation("0", "m\nok", "/a\nb", "alpha", {"drop": ("/x\ny", "a:b")})).register()

    assert "\n" not in find_conflict(valkey, FIRST)


def test_a_handler_is_described_by_its_name_alone_as_older_releases_describe_it() -> None:
    settings = Settings(
        inbox={"a": {"root": "/a", "handler": "shop:order"}, "b": {"root": "/b", "command": ["gzip", "{path}"]}}
    )

    described = describe_installation(settings, Path("/etc/inboxd/settings.toml"))

    assert described.inboxes == {"a": ("/a", "shop:order"), "b": ("/b", "command gzip")}
