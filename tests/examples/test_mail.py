"""examples/mail: of e-mails of all kinds no part is lost, and what is no e-mail is rejected."""

import json
from collections.abc import Callable

import pytest
from support.examples.example_stand import ExampleStand
from support.examples.mails import DEEP, MAILS, NO_MAILS

pytestmark = pytest.mark.examples

MakeExample = Callable[..., ExampleStand]


def test_parts_become_files_and_what_is_no_mail_is_rejected(make_example: MakeExample) -> None:
    stand = make_example("mail").start()
    for name, mail in MAILS.items():
        stand.drop(f"ann/{name}.eml".encode(), mail.content, "mail")
    for name, content in NO_MAILS.items():
        stand.drop(f"{name}.eml".encode(), content, "mail")
    stand.drop(b"deep.eml", DEEP, "mail")

    stand.wait_filed("mail", done=len(MAILS), failed=len(NO_MAILS) + 1)

    outputs = stand.outputs("mail")
    for name, mail in MAILS.items():
        summary = json.loads(outputs.pop(f"ann/{name}/message.json"))
        files = {path.removeprefix(f"ann/{name}/"): outputs.pop(path) for path in [*outputs] if path.startswith(f"ann/{name}/")}
        assert files == mail.files, name
        assert (summary["text"], summary["files"]) == (mail.text, [*mail.files]), name
        assert summary.items() >= mail.headers.items(), name
    assert not outputs
    for name in NO_MAILS:
        assert "This is no e-mail" in stand.reason(f"{name}.eml", "mail"), name
    assert "nested too deeply" in stand.reason("deep.eml", "mail")
    assert not stand.log_events("file_retried")
