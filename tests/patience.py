# SPDX-License-Identifier: LGPL-2.1-or-later
"""What has a second or a few in libhook has a minute in the tests: a machine that stands still makes nothing late.

A test in which something is late says so: it sets what it needs, or lets the clock of the tests go on (`overdue`).
"""

import atexit
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

from libhook.children import confined
from libhook.command import completing, handlers
from libhook.effects import audit
from libhook.facts import config
from libhook.kinds.module import consoles
from libhook.look import descriptors, exports, sysfs, tenants, uses, waiting
from libhook.story import consult, identities

_SECONDS = 60
_LONG: tuple[tuple[ModuleType, str, int], ...] = (
    *(
        (module, "_PATIENCE", _SECONDS)
        for module in (audit, completing, exports, handlers, identities, sysfs, tenants, uses)
    ),
    (consoles, "_FOR_FBCON", _SECONDS),
    (descriptors, "_PATIENCE_MS", 1000 * _SECONDS),
    (waiting, "_TO_NAME", _SECONDS),
)
_ASKED_FOR = "ASKED_FOR"
"""How long a handler may take. In a process of its own that is as usual, unless a test says otherwise."""
_TOP = Path(__file__).parent.parent
_COPY = "LIBHOOK_TEST_LAUNCHER"


def install() -> None:
    """Give each its minute, in this process and in those that are forked from it."""
    for module, name, long in _LONG:
        vars(module)[name] = long
    for module in (confined, consult, handlers):
        vars(module)[_ASKED_FOR] = float(_SECONDS)


def launcher() -> Path:
    """Return a hooks/qemu whose libhook has those minutes. All processes of a test run share one."""
    if _COPY not in os.environ:
        folder, owner = tempfile.mkdtemp(prefix="libhook-launcher-"), os.getpid()
        os.environ[_COPY] = str(copy(Path(folder)))
        atexit.register(_remove, folder, owner)
    return Path(os.environ[_COPY])


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # and no process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


def copy(folder: Path, asked_for: float | None = None) -> Path:
    """Put such a hooks/qemu into the folder, which any user may enter then, with its libhook. Return its path."""
    for part in ("hooks", "libhook"):
        shutil.copytree(_TOP / part, folder / part, ignore=shutil.ignore_patterns("__pyc*"))
    lengthen(folder, asked_for)
    subprocess.run(["chmod", "-R", "go=u-w", folder], check=True)
    return folder / "hooks" / "qemu"


def lengthen(folder: Path, asked_for: float | None = None) -> None:
    """Change the libhook in this folder, a copy of ours, so that it has those minutes, and handlers ``asked_for``."""
    for module, name, long in _LONG:
        _change(folder, module, name, long)
    if asked_for is not None:
        _change(folder, config, _ASKED_FOR, asked_for)


def _change(folder: Path, module: ModuleType, name: str, long: float) -> None:
    path = folder / Path(str(module.__file__)).relative_to(_TOP)
    text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {long}", path.read_text())
    assert count == 1, f"{path}: {name}"
    path.write_text(text)
