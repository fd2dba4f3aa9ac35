"""XML and HTML: told apart by the root element."""

import re

XML = "text/xml"
HTML = "text/html"
XHTML = "application/xhtml+xml"

_SKIPPED = re.compile(rb"\s+|<\?.*?\?>|<!--.*?-->", re.DOTALL)
_DOCTYPE = re.compile(rb"<!doctype\s+([\w:.-]+)[^>\[]*(?:\[[^\]]*\])?\s*>?", re.IGNORECASE)
_ELEMENT = re.compile(rb"<(?:[A-Za-z_][\w.-]{0,60}:)?([A-Za-z_][\w.-]{0,60})([^>]{0,2000})")
_SKIPS_MAX = 200
"""Comments and processing instructions that are passed over before the root element."""

_BY_ROOT = {
    b"svg": "image/svg+xml", b"feed": "application/atom+xml", b"rss": "application/rss+xml", b"RDF": "application/rdf+xml",
    b"kml": "application/vnd.google-earth.kml+xml", b"gpx": "application/gpx+xml", b"stylesheet": "application/xslt+xml",
    b"transform": "application/xslt+xml", b"math": "application/mathml+xml", b"opml": "text/x-opml",
    b"COLLADA": "model/vnd.collada+xml", b"FictionBook": "application/x-fictionbook+xml", b"TEI": "application/tei+xml",
    b"score-partwise": "application/vnd.recordare.musicxml+xml", b"xliff": "application/xliff+xml",
}  # fmt: skip
_FLAT_DOCUMENT = re.compile(rb"office:mimetype=[\"'](application/[a-z0-9.+-]{1,100})[\"']")
_HTML_ELEMENTS = frozenset((b"html", b"head", b"body", b"title", b"script", b"style", b"table"))


def markup_type(head: bytes) -> str | None:
    """Return the content type of text that begins with ``<``, None if it is neither XML nor HTML."""
    is_xml = head.startswith(b"<?xml")
    position, root = _skip(head), None
    if doctype := _DOCTYPE.match(head, position):
        root = doctype.group(1).rpartition(b":")[2]
        position = _skip(head, doctype.end())
    element = _ELEMENT.match(head, position)
    if element:
        root = element.group(1)
    if root is None:
        return XML if is_xml else None
    if root.lower() == b"html":
        return _html_type(head, element.group(2) if element else b"", is_xml=is_xml)
    attributes = element.group(2) if element else b""
    if root in _BY_ROOT and (root not in {b"feed", b"transform", b"math"} or b"xmlns" in attributes):
        return _BY_ROOT[root]
    if root == b"document" and (flat := _FLAT_DOCUMENT.search(head)):
        return flat.group(1).decode()
    if root.lower() in _HTML_ELEMENTS and not is_xml:
        return HTML
    return XML if is_xml or doctype or b"xmlns" in attributes else None


def _html_type(head: bytes, attributes: bytes, *, is_xml: bool) -> str:
    is_strict = is_xml or b"DTD XHTML" in head[:1024]
    return XHTML if is_strict and b"http://www.w3.org/1999/xhtml" in attributes else HTML


def _skip(head: bytes, position: int = 0) -> int:
    """Return the position behind white space, comments and processing instructions."""
    for _ in range(_SKIPS_MAX):
        match = _SKIPPED.match(head, position)
        if match is None:
            break
        position = match.end()
    return position
