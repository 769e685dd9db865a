# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loads a handler by others from its text, and calls it. All of this runs in a confined child.

Nothing that this says is believed: the handler may change whatever is in this process.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec

from libhook import plainjson
from libhook.facts.ownhandler import BEHIND_STRPTIME
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, ModuleType
    from typing import Any

_LONGEST = 300
_WITH_MODULES = ("xml", "xml.etree", "libhook")
"""What is imported from these is a module."""
_UNUSUAL = 0x20 | 0x80 | 0x200
"""The flags of generators and coroutines (Include/cpython/code.h)."""


class Source(NamedTuple):
    """One file of the handler."""

    module: str
    path: str
    text: bytes


class Wrong(Exception):
    """The handler is not as it should be. The text says how."""


def imports(sources: Sequence[Source]) -> bytes:
    """What its files import, of others, as JSON: for each its file, and the line there."""
    sys.meta_path[:] = [_Finder((), is_package=False)]
    return _answer(sources, lambda: {"imports": _imports(sources)})


def declaration(sources: Sequence[Source], *, is_package: bool) -> bytes:
    """What the handler says of itself, as JSON."""
    return _answer(sources, lambda: {"declared": _loaded(sources, is_package)[1]})


def called(sources: Sequence[Source], given: str, *, is_package: bool) -> bytes:
    """The same, and what it answers to what it is given, as JSON."""

    def call() -> dict[str, Any]:
        function, declared = _loaded(sources, is_package)
        return {"declared": declared, "answer": function(plainjson.loads(given))}

    return _answer(sources, call)


def _answer(sources: Sequence[Source], ask: Callable[[], dict[str, Any]]) -> bytes:
    try:
        return plainjson.dumps(ask()).encode()
    except BaseException as error:  # noqa: BLE001 - whatever it raises, the parent is to know
        path, line = _where(error, [source.path for source in sources])
        said = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {_text(error)}".removesuffix(": ")
        return plainjson.dumps({"fault": said[:_LONGEST], "path": path, "line": line}).encode()


def _text(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - that is its own code, too
        return "(it has no text)"


def _where(error: BaseException, own: Sequence[str]) -> tuple[str, int]:
    """The file and line of the innermost frame in the handler's own files."""
    path, line, trace = own[0], 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename in own:
            path, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename in own:
        path, line = str(error.filename), error.lineno or 0
    return path, line


def _imports(sources: Sequence[Source]) -> dict[str, tuple[str, int]]:
    import ast

    found = dict[str, tuple[str, int]]()
    for source in sources:
        for node in ast.walk(ast.parse(source.text, source.path)):
            names = list[str]()
            if isinstance(node, ast.Attribute) and node.attr == "strptime":
                names = [BEHIND_STRPTIME]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                inner = [name for name in inner if node.module in _WITH_MODULES or name == "collections.abc"]
                names = inner or [node.module]
            for name in names:
                found.setdefault(name, (source.path, getattr(node, "lineno", 0)))
    return {name: where for name, where in found.items() if name.partition(".")[0] != sources[0].module}


class _Finder:
    """Finds the modules of a handler in their text, and loads them."""

    def __init__(self, sources: Sequence[Source], *, is_package: bool) -> None:
        self._sources = {source.module: source for source in sources}
        self._is_package = is_package

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        source = self._sources.get(name)
        if source is None:
            return None
        spec = ModuleSpec(name, self, origin=source.path, is_package=self._is_package and "." not in name)  # type: ignore[arg-type]
        spec.has_location = True
        return spec

    def create_module(self, _spec: ModuleSpec) -> ModuleType | None:
        """See importlib.abc.Loader."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """See importlib.abc.Loader."""
        source = self._sources[module.__name__]
        code: CodeType = compile(source.text, source.path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - that is what this child is for


def _loaded(sources: Sequence[Source], is_package: bool) -> tuple[Callable[[object], object], object]:
    """The handler's function, and what it says of itself. Wrong where it is not one function of one argument."""
    name = sources[0].module
    sys.modules.pop(name, None)
    sys.meta_path[:] = [_Finder(sources, is_package=is_package)]
    module = __import__(name)
    marked = {id(one): one for one in vars(module).values() if callable(one) and hasattr(one, "libhook")}
    if len(marked) != 1:
        how_many = "several functions" if marked else "no function"
        raise Wrong(f"{how_many} with @handler; it must have one")
    (function,) = marked.values()
    code = getattr(function, "__code__", None)
    if code is None or code.co_argcount != 1 or code.co_kwonlyargcount or code.co_flags & _UNUSUAL:
        raise Wrong("what @handler marks must be an ordinary function of one argument")
    return function, function.libhook
