"""Whose URLs are used, and that nothing secret of a URL is shown."""

from pathlib import Path
from typing import Any

import pytest

from inboxd.config.loading import load_settings
from inboxd.config.settings import Settings
from inboxd.errors import SettingsError
from inboxd.notify.addresses import CREDENTIAL_NAME, is_configured, label, labels, read_addresses, without_secrets


def settings(inbox: dict[str, Any] | None = None, **notify: Any) -> Settings:  # noqa: ANN401
    return Settings(inbox={"drop": {"root": "/srv/drop", **(inbox or {})}}, notify=notify)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mailto://user:password@example.org?to=a@b.example", "mailto://example.org"),
        ("json://user:pass@127.0.0.1:8080/secret", "json://127.0.0.1"),
        ("jsons://[::1]:8080/secret", "jsons://[::1]"),
        ("https://hooks.slack.com/services/T1/B2/secret", "https://hooks.slack.com"),
        ("slack://TokenA/TokenB/TokenC/#channel", "slack://"),
        ("tgram://123456789:secret-token/chat", "tgram://"),
        ("ntfy://a-secret-topic", "ntfy://"),
        ("ntfys://user:pw@ntfy.example.org/topic", "ntfys://ntfy.example.org"),
        ("json://user:pa@ss/word@example.org/", "json://"),
        ("just a password", "(not a URL)"),
    ],
)
def test_only_scheme_and_host_are_shown(url: str, shown: str) -> None:
    assert label(url) == shown


def test_urls_with_one_label_are_numbered() -> None:
    assert list(labels(["slack://a/b/c", "slack://d/e/f", "json://x.example"]).values()) == [
        "slack://", "slack:// (2)", "json://x.example",
    ]  # fmt: skip


def test_an_error_is_shown_without_the_secrets_of_the_url() -> None:
    url = "json://user:p%40ssw0rd@example.org/the-path?token=abcdef"
    error = "refused: http://example.org/the-path (user p@ssw0rd, token abcdef, p%40ssw0rd)"

    assert without_secrets(error, url) == "refused: http://example.org/*** (*** ***, *** ***, ***)"


def test_the_file_s_urls_are_added_to_those_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "urls"
    file.write_text("# ours\n\n  json://b.example/ \n")

    addresses = read_addresses(settings(urls=["json://a.example/"], urls_file=str(file)), {})

    assert addresses.by_inbox == {"drop": ("json://a.example/", "json://b.example/")}
    assert addresses.problem == ""


def test_the_credential_comes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL_NAME).write_text("json://c.example/")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert read_addresses(settings(urls_file="/not/there"), environment).urls == ("json://c.example/",)
    assert is_configured(settings(), environment)
    assert not is_configured(settings(), {})


def test_a_file_that_is_missing_or_empty_is_a_problem(tmp_path: Path) -> None:
    assert "No such file" in read_addresses(settings(urls_file=str(tmp_path / "missing")), {}).problem
    (tmp_path / "empty").write_text("# nobody\n")
    assert "it has no URL" in read_addresses(settings(urls_file=str(tmp_path / "empty")), {}).problem


def test_an_inbox_has_its_own_urls_or_none() -> None:
    urls = ["json://a.example/"]

    assert read_addresses(settings({"notify_urls": "json://b.example/"}, urls=urls), {}).urls == ("json://b.example/",)
    assert read_addresses(settings({"notify_on": []}, urls=urls), {}).urls == ()


def test_no_url_is_in_the_settings_repr_or_in_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[notify]\nurls = [["json://user:the-password@example.org"]]\n[inbox.drop]\nroot = "drop"\n')

    with pytest.raises(SettingsError) as error:
        load_settings(file)

    assert "notify.urls" in str(error.value)
    assert "the-password" not in str(error.value) + repr(settings(urls=["json://user:the-password@example.org"]))


def test_the_file_of_urls_is_relative_to_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('[notify]\nurls_file = "urls"\n[inbox.drop]\nroot = "drop"\n')

    assert load_settings(file).notify.urls_file == str(tmp_path / "urls")
