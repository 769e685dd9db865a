# SPDX-License-Identifier: LGPL-2.1-or-later
"""Imports the modules of an event from one file, which install.sh writes beside the package.

Without it Python looks for each module in a folder, and opens, checks and reads a file for each. An event imports more
than fifty. The bundle has the code that compileall made. An installed version never changes, so its bundle is never
older than its modules. A clone has no bundle. A bundle that another version of Python wrote is passed over, as a .pyc
file of that version would be.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec  # importlib.machinery would take as long to import as four of our modules
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import dumps, loads

_TOP = __file__.rsplit("/", 2)[0]
_NO_EVENT_NEEDS = ("command", "history", "hotplug", "naming", "simulation", "testing")
"""Folders that Python finds as ever. They would make the bundle twice as long, and each event reads all of it."""


class Bundle:
    """A finder and loader of modules, for sys.meta_path.

    The content is Python's magic number, an index, and the code of one module after another, all but the first in
    marshal's format. The index gives each module's path below the folder, and where its code begins, as a negative
    number that counts from the end.
    """

    def __init__(self, folder: str, content: bytes) -> None:
        """``folder`` is where the package is."""
        self._folder = folder
        self._content = memoryview(content)
        self._index: dict[str, tuple[str, int]] = loads(self._content[len(MAGIC_NUMBER) :])  # noqa: S302

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Describe a module as importlib's own finder does. None for one that is not in the bundle."""
        found = self._index.get(name)
        if found is None:
            return None
        path = f"{self._folder}/{found[0]}"
        folder, _slash, file = path.rpartition("/")
        spec = ModuleSpec(name, self, origin=path, is_package=file == "__init__.py")  # type: ignore[arg-type] # a loader
        spec.has_location = True  # so that the module gets a __file__
        spec.cached = path  # otherwise importlib works out where the .pyc file would be
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(folder)
        return spec

    def create_module(self, _: ModuleSpec) -> None:
        """Leave that to importlib."""

    def exec_module(self, module: object) -> None:
        """Run the module's code in it."""
        of = vars(module)
        exec(loads(self._content[self._index[of["__name__"]][1] :]), of)  # noqa: S102, S302 - as importlib does


def use(folder: str = _TOP) -> None:
    """Import from the folder's bundle from now on, if there is one for this Python."""
    try:
        with open(f"{folder}/bundle", "rb", buffering=0) as file:
            content = file.read()
    except OSError:
        return
    if content.startswith(MAGIC_NUMBER):
        sys.meta_path.insert(0, Bundle(folder, content))


def write(folder: str) -> None:
    """Write the bundle of the package in the folder, from its .pyc files. OSError if one is missing."""
    import os

    found: list[tuple[str, str, bytes]] = []
    for place, folders, files in os.walk(f"{folder}/libhook"):
        folders[:] = sorted(set(folders) - {*_NO_EVENT_NEEDS, "__pycache__"})
        for stem in sorted(file[:-3] for file in files if file.endswith(".py")):
            path = os.path.relpath(f"{place}/{stem}", folder)
            with open(f"{place}/__pycache__/{stem}.{sys.implementation.cache_tag}.pyc", "rb") as file:
                found.append((path.removesuffix("/__init__").replace("/", "."), f"{path}.py", file.read()[16:]))
    index: dict[str, tuple[str, int]] = {}
    code = b""
    for name, path, compiled in reversed(found):
        code = compiled + code
        index[name] = path, -len(code)
    with open(f"{folder}/bundle", "wb") as made:
        made.write(MAGIC_NUMBER + dumps(index, 2) + code)  # version 2: the same bytes each time


if __name__ == "__main__":
    write(_TOP)
