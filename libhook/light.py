# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stand-ins for what libhook uses of typing, contextlib and functools, so that an event need not import these.

Importing those three, with what they import, takes longer than everything else that an event imports. To a type checker
each name here is the one of the standard library. At run time it does only what libhook needs of it. Nothing reads
annotations in a running hook: every module that imports this one has ``from __future__ import annotations``.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from contextlib import contextmanager, suppress
    from functools import partial
    from types import MappingProxyType, TracebackType
    from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

__all__ = [
    "TYPE_CHECKING",
    "Literal",
    "MappingProxyType",
    "NamedTuple",
    "Protocol",
    "contextmanager",
    "get_args",
    "partial",
    "suppress",
]


class _Value(tuple):  # type: ignore[type-arg] # of whatever the fields are
    """A tuple whose fields have names. Classes that derive from NamedTuple derive from this one."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, Any] = {}  # noqa: RUF012 - as typing has it

    def __new__(cls, *values: object, **named: object) -> Self:
        if named or len(values) != len(cls._fields):
            values = cls._completed(values, named)
        return tuple.__new__(cls, values)

    @classmethod
    def _completed(cls, values: tuple[object, ...], named: dict[str, object]) -> tuple[object, ...]:
        """The value of each field, from ``values``, ``named`` and the defaults. TypeError unless each has one."""
        fields = cls._fields
        if len(values) > len(fields):
            raise TypeError(f"{cls.__name__} takes {len(fields)} values, not {len(values)}")
        given = dict(zip(fields, values))  # noqa: B905 - the rest is named, or has a default
        for name, value in named.items():
            if name not in fields:
                raise TypeError(f"{cls.__name__} has no field {name!r}")
            if name in given:
                raise TypeError(f"{cls.__name__} is given {name!r} twice")
            given[name] = value
        given = {**cls._field_defaults, **given}
        if missing := [name for name in fields if name not in given]:
            raise TypeError(f"{cls.__name__} is not given {', '.join(missing)}")
        return tuple(given[name] for name in fields)

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        values = tuple(values)
        if len(values) != len(cls._fields):
            raise TypeError(f"{cls.__name__} takes {len(cls._fields)} values, not {len(values)}")
        return tuple.__new__(cls, values)

    def _replace(self, **named: object) -> Self:
        values = tuple(named.pop(name, value) for name, value in zip(self._fields, self, strict=True))
        if named:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(named)}")
        return tuple.__new__(type(self), values)

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self._fields, self, strict=True))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
        return f"{type(self).__name__}({shown})"


try:
    from _collections import _tuplegetter as _getter  # type: ignore[import-not-found] # what namedtuple has, in C
except ImportError:  # another Python implementation, or a later version

    def _getter(number: int, _: str) -> object:
        return property(lambda value: value[number])


class _Making(type):
    """Makes the fields of a class from its annotations. Classes that derive from that class have the same fields."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _Making:
        if bases[0] is not _Value and not getattr(bases[0], "_fields", ()):
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {}
            for number, field in enumerate(fields):
                if field in namespace:
                    defaults[field] = namespace[field]
                elif defaults:
                    raise TypeError(f"{name}: {field} has no default, and follows one that has")
                namespace[field] = _getter(number, "")
            namespace["_fields"] = namespace["__match_args__"] = fields
            namespace["_field_defaults"] = defaults
            namespace["__slots__"] = ()
        return type.__new__(mcs, name, bases, namespace)


class _Passed:
    """``with suppress(OSError):`` ignores such an error in the body."""

    __slots__ = ("_kinds",)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


class _Managed:
    """Runs a generator with one yield around the body of a ``with``."""

    __slots__ = ("_generator",)

    def __init__(self, generator: Generator[Any, None, None]) -> None:
        self._generator = generator

    def __enter__(self) -> Any:  # noqa: ANN401 - whatever it yields
        return next(self._generator)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            if error is None:
                next(self._generator)
            else:
                self._generator.throw(error)
        except StopIteration as end:
            return error is not None and end is not error
        except BaseException as raised:
            # A generator may not raise StopIteration: Python wraps it.
            if error is None or (
                raised is not error and not (isinstance(error, StopIteration) and raised.__cause__ is error)
            ):
                raise
            error.__traceback__ = trace
            return False
        raise RuntimeError("it goes on after the body of its with")


def _managing(generate: Callable[..., Generator[Any, None, None]]) -> Callable[..., _Managed]:
    def manage(*arguments: object, **named: object) -> _Managed:
        return _Managed(generate(*arguments, **named))

    manage.__doc__ = generate.__doc__
    return manage


class _Choices:
    """``Literal["a", "b"]`` gives the tuple of the choices."""

    def __getitem__(self, values: str | tuple[str, ...]) -> tuple[str, ...]:
        return values if isinstance(values, tuple) else (values,)


if not TYPE_CHECKING:
    from _functools import partial

    NamedTuple = _Making("NamedTuple", (_Value,), {"__slots__": ()})
    Literal, Protocol = _Choices(), object
    MappingProxyType = type(type.__dict__)
    suppress, contextmanager = _Passed, _managing

    def get_args(choices: tuple[str, ...]) -> tuple[str, ...]:
        """The choices of a Literal."""
        return choices
