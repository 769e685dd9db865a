# SPDX-License-Identifier: LGPL-2.1-or-later
"""lxml without what it imports and no reading of a document uses: that takes longer than lxml itself.

inspect is for classes that are given to its parser as a target, gzip for compressed files, _elementpath for ``find``;
and its expressions are for writing, and for what is called by ``lxml.html``. Whoever uses one of them after all gets an
ImportError. Only for a process that does nothing but read a document, and where somebody else reads it again, with all
of lxml, if this one fails.
"""

from __future__ import annotations

import _collections  # type: ignore[import-not-found]
import _collections_abc
import sys

from libhook.light import TYPE_CHECKING, partial

if TYPE_CHECKING:
    from typing import Any, NoReturn


class _Unused:
    """In place of what a module has: it is named, and never called."""

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise ImportError("left out by libhook.xml.lean")

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self


class _Empty(type(sys)):  # type: ignore[misc] # types.ModuleType, which need not be imported for it
    """In place of a module: it has whatever it is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unused()


class _Number:
    """What an expression found at the beginning of a text."""

    def __init__(self, text: str) -> None:
        self._digits = text[: len(text) - len(text.lstrip("0123456789"))]

    def group(self, _: int) -> str:
        """All of it."""
        return self._digits


def _match(expression: str, text: str) -> _Number:
    """By this lxml reads which libxml2 it has; it asks for nothing else while it is imported."""
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
    """Import lxml.etree; what stood in for something is gone afterwards, for whoever else imports that."""
    stand_ins: dict[str, Any] = {
        "inspect": _stand_in("inspect"),
        "gzip": _stand_in("gzip"),
        "lxml._elementpath": _stand_in("lxml._elementpath"),
        "re": _stand_in("re", compile=_unused, match=_match),
        "contextlib": _stand_in("contextlib", contextmanager=_unused),
        "functools": _stand_in("functools", partial=partial),
        "collections": _stand_in("collections", OrderedDict=_collections.OrderedDict),
        "collections.abc": _collections_abc,  # that is all it is
    }
    absent = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(absent)
    try:
        import lxml.etree  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]
