# SPDX-License-Identifier: LGPL-2.1-or-later
"""Imports lxml without the modules that reading a document never uses. They take longer to import than lxml itself.

lxml uses inspect for parser targets that are classes, gzip for compressed files, and _elementpath for ``find``. It uses
its regular expressions for writing and for ``lxml.html``. A call to any of these raises ImportError here. So load() is
only for a process that does nothing but read a document. Another process must read it again with all of lxml if that
fails.
"""

from __future__ import annotations

import _collections  # type: ignore[import-not-found]
import _collections_abc
import sys

from libhook.light import TYPE_CHECKING, partial

if TYPE_CHECKING:
    from typing import Any, NoReturn


class _Unused:
    """Stands for something in a module. It is named, and never called."""

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise ImportError("left out by libhook.xml.lean")

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class _Empty(type(sys)):  # type: ignore[misc] # types.ModuleType, which need not be imported for it
    """Stands for a module. It has every name that it is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused()


class _Number:
    """What a regular expression matched at the start of a text."""

    def __init__(self, text: str) -> None:
        self._digits = text[: len(text) - len(text.lstrip("0123456789"))]

    def group(self, _: int) -> str:
        """The whole match."""
        return self._digits


def _match(expression: str, text: str) -> _Number:
    """For lxml's own reading of libxml2's version. While it is imported, lxml matches nothing else."""
    if expression != "[0-9]+":
        raise ImportError("left out by libhook.xml.lean")
    return _Number(text)


def _unused(*_: object) -> _Unused:
    return _Unused()


def _stand_in(name: str, **known: object) -> _Empty:
    module = _Empty(name)
    module.__dict__.update(known)
    return module


def load() -> None:
    """Import lxml.etree. Afterwards the stand-ins are gone, so that others import the real modules."""
    stand_ins: dict[str, Any] = {
        "inspect": _stand_in("inspect"),
        "gzip": _stand_in("gzip"),
        "lxml._elementpath": _stand_in("lxml._elementpath"),
        "re": _stand_in("re", compile=_unused, match=_match),
        "contextlib": _stand_in("contextlib", contextmanager=_unused),
        "functools": _stand_in("functools", partial=partial),
        "collections": _stand_in("collections", OrderedDict=_collections.OrderedDict),
        "collections.abc": _collections_abc,  # collections.abc is the same module
    }
    absent = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(absent)
    try:
        import lxml.etree  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]
