"""examples/ocr with the real ocrmypdf: a scan gets a text layer; what is no PDF, or encrypted, is rejected."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.examples.example_stand import ExampleStand

pytestmark = pytest.mark.examples

MakeExample = Callable[..., ExampleStand]

POSTSCRIPT = "/Helvetica findfont 40 scalefont setfont 60 500 moveto (Invoice 4711 of March) show showpage"
IMAGE = ("-sDEVICE=pdfimage8", "-r150")
"""Makes a PDF that is a picture only, as a scanner does."""
ENCRYPTED = ("-sDEVICE=pdfwrite", "-sOwnerPassword=owner", "-sUserPassword=user")


def ghostscript(*options: str, source: str = POSTSCRIPT, path: str = "-") -> bytes:
    argv = ("gs", "-q", "-dNOPAUSE", "-dBATCH", *options, *(("-c", source) if path == "-" else ("-f", path)))
    return subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout


def make_pdf(*options: str) -> bytes:
    return ghostscript(*options, "-sOutputFile=-")


def text_of(pdf: bytes, folder: Path) -> str:
    path = folder / "text.pdf"
    path.write_bytes(pdf)
    return " ".join(ghostscript("-sDEVICE=txtwrite", "-sOutputFile=-", path=str(path)).decode().split())


def test_scans_get_a_text_layer_and_what_can_not_be_read_is_rejected(make_example: MakeExample, tmp_path: Path) -> None:
    stand = make_example("ocr").start()
    scan = make_pdf(*IMAGE)
    assert not text_of(scan, tmp_path)

    stand.drop(b"2026/march scan.pdf", scan, "scans")
    stand.drop(b"--help.pdf", scan, "scans")
    stand.drop(b"no.pdf", b"this is a text", "scans")
    stand.drop(b"encrypted.pdf", make_pdf(*ENCRYPTED), "scans")
    stand.wait_filed("scans", done=2, failed=2)

    outputs = stand.outputs("scans")
    assert list(outputs) == ["--help.pdf", "2026/march scan.pdf"]
    assert [text_of(output, tmp_path) for output in outputs.values()] == ["Invoice 4711 of March"] * 2
    assert stand.path("done", b"2026/march scan.pdf", "scans").read_bytes() == scan
    assert "cannot identify image file" in stand.reason("no.pdf", "scans")
    assert "Input PDF is encrypted" in stand.reason("encrypted.pdf", "scans")
    assert not stand.log_events("file_retried")


def test_a_missing_language_is_no_reason_to_reject(make_example: MakeExample) -> None:
    stand = make_example("ocr", {"--language=eng": "--language=xyz"}).start()

    stand.drop(b"scan.pdf", make_pdf(*IMAGE), "scans")
    stand.wait_until(lambda: stand.log_events("file_retried", stand.worker))

    (retried, *_) = stand.log_events("file_retried", stand.worker)
    assert "exit code 3" in retried["why"]
    assert "xyz" in retried["why"]
