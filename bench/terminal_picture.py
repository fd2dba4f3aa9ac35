"""Take the picture of README: `inboxd up` on a terminal, with believable files below /srv/drop, in a mount namespace.

    unshare --mount sh -c 'mount -t tmpfs tmpfs /srv && PYTHONPATH=tests:. python bench/terminal_picture.py docs'

Needs root and Chromium.
"""

import html
import sys
from pathlib import Path

from pyte.screens import Char
from support.live.web_stand import chromium
from support.terminal import Session, on_terminal

COLUMNS, LINES = 100, 26
FOLDER = Path("/srv/drop")
SETTINGS = """\
state_dir = "var"
defaults = { settle_seconds = 0.2, retries = 1, retry_backoff_seconds = 0.1 }

[inbox.invoices]
root = "invoices"
handler = "picture:book"

[inbox.scans]
root = "scans"
"""
HANDLER = """\
from inboxd import RejectFile
from inboxd.handlers import describe


def book(file):
    if "4712" in file.filename:
        raise RejectFile("the invoice has no total")
    return describe(file)
"""
DROPS = (
    ("invoices", "2026/11/ACME-4711.pdf", b"%PDF-1.7\n" + bytes(184_000)),
    ("scans", "scan-0017.tif", b"II*\0" + bytes(2_400_000)),
    ("invoices", "2026/11/ACME-4712.pdf", b"%PDF-1.7\n" + bytes(92_000)),
    ("invoices", "2026/11/Müller & Söhne.pdf", b"%PDF-1.4\n" + bytes(51_000)),
    ("scans", "receipt.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(830_000)),
    ("scans", "prices.csv", b"article;price\n4711;9,90\n" * 40),
)
COLORS = {
    "default": "#d8dee4", "red": "#ff7b72", "green": "#7ee787", "yellow": "#e3b341", "brown": "#e3b341", "blue": "#79c0ff",
    "cyan": "#76e3ea", "magenta": "#d2a8ff", "white": "#ffffff", "black": "#6e7681",
}  # fmt: skip
PAGE = """\
<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #0d1117; }}
pre {{ margin: 0; padding: 14px 18px; display: inline-block; font: 14px/1.35 "DejaVu Sans Mono", monospace; }}
</style><pre>{lines}</pre>"""


def main(target: Path) -> None:
    """Run inboxd, drop the files, and take the picture."""
    FOLDER.mkdir(parents=True)
    (FOLDER / "settings.toml").write_text(SETTINGS, "utf-8")
    (FOLDER / "picture.py").write_text(HANDLER, "utf-8")
    argv = [sys.executable, "-m", "inboxd", "up", "--settings", str(FOLDER / "settings.toml")]
    with on_terminal(argv, COLUMNS, LINES, cwd=FOLDER) as session:
        session.wait_for_text("Ctrl-C stops inboxd")
        for inbox, name, content in DROPS:
            file = FOLDER / inbox / "inbox" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            session.wait_for_text(Path(name).stem)
        session.wait_for(lambda: sum("done" in row or "failed" in row for row in session.rows) >= len(DROPS))
        lines = to_html(session)
        session.type(b"\x03")
        session.wait_for_exit()
    with chromium() as browser:
        page = browser.new_page(device_scale_factor=1.5, viewport={"width": 1000, "height": 600})
        page.set_content(PAGE.format(lines=lines))
        page.locator("pre").screenshot(path=target / "terminal.png")


def to_html(session: Session) -> str:
    """Return the screen's lines as HTML, in the terminal's colours."""
    rows = ["".join(map(_to_span, row)) for row in session.cells if "".join(cell.data for cell in row).strip()]
    return "\n".join(["<span style='color:#ffffff'>$ inboxd up</span>", *rows])


def _to_span(cell: Char) -> str:
    color = COLORS.get(cell.fg, f"#{cell.fg}")
    return f'<span style="color:{color};font-weight:{"bold" if cell.bold else "normal"}">{html.escape(cell.data)}</span>'


if __name__ == "__main__":
    main(Path(sys.argv[1]))
