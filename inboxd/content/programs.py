"""Programs and their parts: ELF, Windows, Mach-O, Java, Python."""

from typing import Literal

from inboxd.content.reading import Reader

PE = "application/vnd.microsoft.portable-executable"
DOS = "application/x-dosexec"
MACH_O = "application/x-mach-binary"

_ELF_KINDS = {
    1: "application/x-object",
    2: "application/x-executable",
    3: "application/x-sharedlib",
    4: "application/x-coredump",
}
_MACH_O_MAGICS = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
_ARCHITECTURES_MAX = 30
"""A universal Mach-O has its number of architectures where a Java class has its version, 45 or more."""
_SHARED, _INTERPRETER = 3, 3
_PROGRAM_HEADERS_MAX = 64
_PYTHON_MAGICS = range(2900, 4000)
"""The first two bytes of byte code, from Python 3.0 on; "\\r\\n" follows."""


def program_type(head: bytes, reader: Reader) -> str | None:
    """Return the content type of a program, library or byte code, None if the bytes are none."""
    start = head[:4]
    if start == b"\x7fELF":
        return _elf_type(head)
    if start[:2] == b"MZ":
        offset = int.from_bytes(head[60:64], "little")
        return PE if len(head) >= 64 and reader.at(offset, 4) == b"PE\0\0" else DOS  # noqa: PLR2004 - the length of DOS's header
    if start in _MACH_O_MAGICS:
        return MACH_O
    if start == b"\xca\xfe\xba\xbe":
        return MACH_O if 0 < int.from_bytes(head[4:8], "big") <= _ARCHITECTURES_MAX else "application/java-vm"
    if start == b"\xca\xfe\xd0\x0d":
        return "application/x-java-pack200"
    is_python = start[2:] == b"\r\n" and int.from_bytes(start[:2], "little") in _PYTHON_MAGICS
    return "application/x-bytecode.python" if is_python else None


def _elf_type(head: bytes) -> str:
    order: Literal["big", "little"] = "big" if head[5:6] == b"\2" else "little"
    kind = int.from_bytes(head[16:18], order)
    if kind == _SHARED and _has_interpreter(head, order):
        return "application/x-pie-executable"
    return _ELF_KINDS.get(kind, "application/x-elf")


def _has_interpreter(head: bytes, order: Literal["big", "little"]) -> bool:
    """Tell whether a program header names an interpreter: a shared object with one can be run."""
    is_64 = head[4:5] == b"\2"
    start = int.from_bytes(head[32:40] if is_64 else head[28:32], order)
    size_at = 54 if is_64 else 42
    size = int.from_bytes(head[size_at : size_at + 2], order) or 1
    count = min(int.from_bytes(head[size_at + 2 : size_at + 4], order), _PROGRAM_HEADERS_MAX)
    kinds = (int.from_bytes(head[start + size * index :][:4], order) for index in range(count))
    return _INTERPRETER in kinds
