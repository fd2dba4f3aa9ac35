"""Handlers from the settings' folder are imported from sources that nobody else can change."""

import py_compile
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.repository import REPOSITORY

CODE = """
import sys
from pathlib import Path
from inboxd.config.handler_import import append_settings_folder, import_handler
append_settings_folder(Path(sys.argv[1]))
print(import_handler(sys.argv[2])("file"))
"""


def call(folder: Path, handler: str) -> subprocess.CompletedProcess[str]:
    """Import and call a handler in a process of its own."""
    argv = [sys.executable, "-c", CODE, str(folder / "settings.toml"), handler]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a settings folder with modules and packages, all of the caller's own."""
    files = {
        "inv.py": "import helper\ndef book(file): return 'booked by ' + helper.NAME\n",
        "helper.py": "NAME = 'helper'\n",
        "package/__init__.py": "",
        "package/sub/__init__.py": "",
        "package/sub/inv.py": "from package.sub.more import book\n",
        "package/sub/more.py": "def book(file): return 'booked below'\n",
        "portion/inv.py": "def book(file): return 'booked in a portion'\n",
    }
    folder = tmp_path / "etc"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("handler", "printed"),
    [("inv:book", "booked by helper"), ("package.sub.inv:book", "booked below"), ("portion.inv:book", "booked in a portion")],
)
def test_modules_packages_and_portions_are_imported(folder: Path, handler: str, printed: str) -> None:
    result = call(folder, handler)

    assert result.stdout.strip() == printed, result.stderr
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("change", "handler", "where"),
    [
        (lambda folder: (folder / "inv.py").chmod(0o666), "inv:book", "inv.py"),
        (lambda folder: (folder / "helper.py").chmod(0o666), "inv:book", "helper.py"),
        (lambda folder: (folder / "package/sub/more.py").chmod(0o666), "package.sub.inv:book", "more.py"),
        (lambda folder: (folder / "package/sub").chmod(0o777), "package.sub.inv:book", "sub"),
        (lambda folder: (folder / "portion").chmod(0o1777), "portion.inv:book", "portion"),
        (lambda folder: (folder / "portion/inv.py").chmod(0o666), "portion.inv:book", "inv.py"),
    ],
)
def test_one_that_others_can_change_is_not(folder: Path, change: Callable[[Path], None], handler: str, where: str) -> None:
    change(folder)

    result = call(folder, handler)

    assert result.returncode != 0
    assert f"{where}: everybody can write to it" in result.stderr
    assert "booked" not in result.stdout


def test_planted_byte_code_is_not_run(folder: Path) -> None:
    planted = folder.parent / "planted.py"
    planted.write_text("import helper\ndef book(file): return 'owned by someone' \n".ljust((folder / "inv.py").stat().st_size))
    cache = folder / "__pycache__" / f"inv.{sys.implementation.cache_tag}.pyc"
    cache.parent.mkdir(mode=0o777)
    py_compile.compile(str(planted), cfile=str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)

    assert call(folder, "inv:book").stdout.strip() == "booked by helper"


def test_modules_elsewhere_keep_their_byte_code(folder: Path) -> None:
    code = "import sys; from pathlib import Path; from inboxd.config.handler_import import append_settings_folder as a; "
    code += "a(Path(sys.argv[1])); import redis; print(redis.__cached__)"

    argv = [sys.executable, "-c", code, str(folder / "settings.toml")]
    result = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert result.stdout.strip().endswith(".pyc")
