"""Content types by a file name's suffix: for what text alone doesn't tell."""

import mimetypes
from functools import lru_cache

OCTET_STREAM = "application/octet-stream"

_TEXT_SUFFIXES = {
    "md": "text/markdown", "markdown": "text/markdown", "rst": "text/x-rst", "csv": "text/csv",
    "tsv": "text/tab-separated-values", "py": "text/x-python", "pyi": "text/x-python", "js": "text/javascript",
    "mjs": "text/javascript", "css": "text/css", "yaml": "application/yaml", "yml": "application/yaml",
    "toml": "application/toml", "c": "text/x-c", "h": "text/x-c", "cc": "text/x-c++", "cpp": "text/x-c++",
    "hpp": "text/x-c++", "java": "text/x-java", "rb": "text/x-ruby", "pl": "text/x-perl", "pm": "text/x-perl",
    "ph": "text/x-perl", "cmd": "text/x-msdos-batch", "inl": "text/x-c++", "cuh": "text/x-c++",
    "sh": "text/x-shellscript", "tcl": "text/x-tcl", "lua": "text/x-lua", "sql": "application/sql", "tex": "text/x-tex",
    "bib": "text/x-bibtex", "po": "text/x-po", "diff": "text/x-diff", "patch": "text/x-diff", "html": "text/html",
    "htm": "text/html", "xml": "text/xml", "json": "application/json", "eml": "message/rfc822", "ics": "text/calendar",
    "vcf": "text/vcard", "srt": "application/x-subrip", "vtt": "text/vtt", "bat": "text/x-msdos-batch",
    "ts": "text/x-typescript", "go": "text/x-go", "rs": "text/x-rust", "php": "text/x-php", "awk": "text/x-awk",
    "jsonl": "application/x-ndjson", "ndjson": "application/x-ndjson", "edi": "application/edifact", "m4": "text/x-m4",
    "s": "text/x-asm", "asm": "text/x-asm", "el": "text/x-lisp", "lisp": "text/x-lisp", "lsp": "text/x-lisp",
    "sty": "text/x-tex", "cls": "text/x-tex", "mk": "text/x-makefile", "hh": "text/x-c++", "hxx": "text/x-c++",
    "cxx": "text/x-c++", "ppd": "application/vnd.cups-ppd", "ldif": "text/x-ldif",
}  # fmt: skip
"""Formats that are text, by suffix. Binary formats are not here: text is never one of them, whatever its name says."""

_NARROWER = {
    ("video/x-ms-asf", "wma"): "audio/x-ms-wma", ("video/x-ms-asf", "wmv"): "video/x-ms-wmv",
    ("video/x-matroska", "mka"): "audio/x-matroska", ("video/mp4", "m4a"): "audio/mp4",
}  # fmt: skip
"""Types of one container that only the name tells apart."""


def suffix_of(name: str) -> str:
    """Return a file name's suffix in lower case, without its dot; empty if there is none."""
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return suffix.lower() if dot else ""


def text_type_by_name(name: str) -> str | None:
    """Return the type of a text file by its suffix, None if its suffix names no text format."""
    suffix = suffix_of(name)
    if name.rpartition("/")[2].lower().startswith(("makefile", "gnumakefile")):
        return "text/x-makefile"
    return _TEXT_SUFFIXES.get(suffix) or (_registered_text_type(suffix) if suffix else None)


def narrow_by_name(content_type: str, name: str) -> str:
    """Return the type that a container of this type has with this suffix."""
    return _NARROWER.get((content_type, suffix_of(name)), content_type)


@lru_cache(maxsize=1024)
def _registered_text_type(suffix: str) -> str | None:
    guessed = mimetypes.guess_type(f"x.{suffix}")[0]
    return guessed if guessed and guessed.startswith("text/") else None
