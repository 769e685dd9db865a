# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules from one file: they are what Python would have imported from their own files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "libhook"
IMPORTING = """
import sys
sys.path.insert(0, sys.argv[1])
from libhook import bundle
bundle.use()
import libhook.one.two
from libhook.one import two
import libhook.simulation.host
for module in (libhook.one, two):
    print(module.__name__, module.__package__, module.__file__, getattr(module, "__path__", None))
    print(module.__spec__.name, module.__spec__.parent, module.__spec__.origin)
print(two.VALUE, [type(one).__name__ for one in sys.meta_path].count("Bundle"))
two.fail()
"""


class Installed:
    """A package of a few modules, compiled and bundled as install.sh does it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bundle = folder / "bundle"
        modules = {
            "__init__": "",
            "one/__init__": "",
            "one/two": "VALUE = 2\n\n\ndef fail():\n    raise ValueError(VALUE)\n",
            "simulation/__init__": "",
            "simulation/host": "",
        }
        for name, text in modules.items():
            path = folder / "libhook" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        shutil.copy(PACKAGE / "bundle.py", folder / "libhook")
        self.run("-m", "compileall", "-q", str(folder / "libhook"))
        self.write()

    def write(self) -> None:
        """Write the bundle."""
        self.run("-B", str(self.folder / "libhook/bundle.py"))

    def run(self, *arguments: str) -> None:
        """Run a Python that must succeed."""
        subprocess.run([sys.executable, "-I", *arguments], check=True, timeout=600)

    def use(self) -> tuple[str, str]:
        """Import all of it in a Python of its own; return what it prints, and its last line on stderr."""
        call = [sys.executable, "-I", "-S", "-c", IMPORTING, str(self.folder)]
        done = subprocess.run(call, capture_output=True, text=True, timeout=600, check=False)
        return done.stdout, done.stderr


@pytest.fixture(name="installed")
def _installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_a_module_is_the_same_as_from_its_own_file(installed: Installed) -> None:
    """Its name, package, file and path, and the file and line of an error in it."""
    bundled = installed.use()
    installed.bundle.unlink()
    plain = installed.use()
    assert bundled[0].endswith("\n2 1\n")
    assert plain[0] == bundled[0].removesuffix("2 1\n") + "2 0\n"
    assert bundled[1] == plain[1]
    assert f'{installed.folder}/libhook/one/two.py", line 5, in fail' in plain[1]


def test_nothing_is_looked_for_beside_the_bundle(installed: Installed) -> None:
    """The modules' own files are not read, but for those of the folders that no event needs."""
    (installed.folder / "libhook/one/two.py").write_text("broken =")
    shutil.rmtree(installed.folder / "libhook/one/__pycache__")
    assert installed.use()[0].endswith("\n2 1\n")
    shutil.rmtree(installed.folder / "libhook/simulation")
    assert "No module named 'libhook.simulation'" in installed.use()[1]


@pytest.mark.parametrize("content", [b"", b"\x00\x00\r\n", b"\xcb\r"])
def test_a_bundle_of_another_python_is_passed_over(installed: Installed, content: bytes) -> None:
    """Its modules come from their own files."""
    installed.bundle.write_bytes(content + installed.bundle.read_bytes()[4:])
    assert installed.use()[0].endswith("\n2 0\n")


def test_the_same_modules_make_the_same_bundle(installed: Installed) -> None:
    """install.sh compares a version with the one in place."""
    before = installed.bundle.read_bytes()
    installed.write()
    assert installed.bundle.read_bytes() == before


def test_a_module_without_its_code_ends_the_installation(installed: Installed) -> None:
    """A bundle that lacks a module would be slow and say nothing."""
    shutil.rmtree(installed.folder / "libhook/one/__pycache__")
    with pytest.raises(subprocess.CalledProcessError):
        installed.write()


def test_what_an_event_imports_is_in_the_bundle() -> None:
    """All of libhook but five folders: a new folder is an event's until somebody says that it is not."""
    from libhook.bundle import _NO_EVENT_NEEDS

    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    events = {"children", "effects", "facts", "handlers", "kinds", "look", "story", "xml"}
    assert folders - set(_NO_EVENT_NEEDS) == events
