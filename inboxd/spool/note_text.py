"""The part of a note that is for the person who dropped the file: a text for each kind of failure, with words to replace.

Pure: ``note_files`` reads the texts. A text is no code: its only instruction is a word in braces.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from inboxd.logs.text import escape, shorten
from inboxd.spool.failure import FailureKind

VALUES = frozenset({"file", "reason", "contact", "inbox", "size", "size_max", "seconds", "depth_max", "times", "beside"})
"""The words in braces that each file's note replaces."""
CONTACT = "contact"
"""The section with the words that stand for a contact that the settings do not name."""

TEXT_CHARS_MAX = 4000
VALUE_CHARS_MAX = 1000
_HEADER = re.compile(r"\[\s*([\w-]+)\s*\]\s*")
_WORD = re.compile(r"\{([\w-]+)\}")
_UNITS = ("KB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class NoteText:
    """The text of one kind of failure, its pieces inserted; and whom it names if the settings name no contact."""

    text: str
    contact: str

    def fill_in(self, values: Mapping[str, str]) -> str:
        """Return the text with each word in braces replaced, once: braces in a value are no words. Lines stay as they are."""
        filled = {"contact": self.contact, **{key: value for key, value in values.items() if value}}

        def value(word: re.Match[str]) -> str:
            return shorten(escape(filled.get(word[1], "")), VALUE_CHARS_MAX)

        return _WORD.sub(value, self.text)


@dataclass(frozen=True, slots=True)
class TextProblem:
    """What is wrong with a section of a file of texts."""

    section: str
    problem: str


def read_sections(raw: str) -> dict[str, str]:
    """Return section -> text; text before the first one belongs to the section "". Of a repeated section the last counts."""
    sections: dict[str, list[str]] = {}
    current = ""
    for line in raw.removeprefix("\ufeff").splitlines():
        if line.startswith("#"):
            continue
        if header := _HEADER.fullmatch(line):
            current = header[1]
            sections[current] = []
        else:
            sections.setdefault(current, []).append(escape(line.rstrip()))
    return {name: "\n".join(lines).strip("\n") for name, lines in sections.items()}


def build_texts(sections: Mapping[str, str]) -> tuple[dict[FailureKind, NoteText], list[TextProblem]]:
    """Return the texts of the kinds whose sections are usable, and what is wrong with the others."""
    problems = list(_find_problems(sections))
    broken = {problem.section for problem in problems}
    texts = {}
    for kind in FailureKind:
        if kind in broken:
            continue
        text = _WORD.sub(lambda word: word[0] if word[1] in VALUES else sections[word[1]], sections[kind])
        if len(text) > TEXT_CHARS_MAX:
            problems.append(TextProblem(kind, f"has more than {TEXT_CHARS_MAX} characters"))
        else:
            texts[kind] = NoteText(text, sections.get(CONTACT, ""))
    return texts, problems


def _find_problems(sections: Mapping[str, str]) -> Iterator[TextProblem]:
    if sections.get("", "").strip():
        yield TextProblem("", "has text before its first section, such as [rejected]")
    pieces = sections.keys() - set(FailureKind) - {"", CONTACT}
    for name in (CONTACT, *FailureKind):
        if not sections.get(name):
            yield TextProblem(name, "is missing or empty")
    for name, text in sections.items():
        words = set(_WORD.findall(text))
        allowed = VALUES if name in pieces else set() if name == CONTACT else VALUES | pieces
        if unknown := sorted(words - allowed):
            known = ", ".join(f"{{{word}}}" for word in sorted(allowed)) or "none"
            yield TextProblem(name, f"has the unknown word {{{unknown[0]}}}; known here: {known}")
        elif broken := sorted(piece for piece in words & pieces if set(_WORD.findall(sections[piece])) - VALUES):
            yield TextProblem(name, f"uses {{{broken[0]}}}, whose section has an unknown word")
    used = {word for text in sections.values() for word in _WORD.findall(text)}
    for name in sorted(pieces - used):
        yield TextProblem(name, "is no kind of failure, and no other section uses it")


def size_in_words(size: int, *, is_limit: bool = False) -> str:
    """Return a size as people write it, without a decimal sign; a limit is rounded down, and what exceeds it up."""
    number, unit = size, "B"
    for larger in _UNITS:
        if number < 10_000:  # noqa: PLR2004 - four digits are read at a glance
            break
        number, unit = (number // 1000 if is_limit else -(-number // 1000)), larger
    return f"{number} {unit}"
