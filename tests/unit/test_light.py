# SPDX-License-Identifier: LGPL-2.1-or-later
"""The stand-ins of libhook.light do what those of the standard library do; each test asks both."""

import contextlib
import copy
import functools
import pickle
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from libhook import light

# To a type checker they are the same, so that these are asked for by a name that it does not see.
_LIGHT: Any = light


class _Mixed:
    """What is written in the class of a tuple is in it."""

    kind: str
    number: int = 7
    more: tuple[str, ...] = ()

    @property
    def doubled(self) -> int:
        """A property."""
        return self.number * 2

    @classmethod
    def of(cls, kind: str) -> Any:  # noqa: ANN401 - of either class
        """Another way to make one."""
        return cls(kind)  # type: ignore[call-arg]

    def __str__(self) -> str:
        """Its own text."""
        return f"<{self.kind}>"


def _make(name: str, base: Any, own: dict[str, Any]) -> Any:  # noqa: ANN401 - a class that is made here
    return types.new_class(name, (base,), {}, lambda namespace: namespace.update(own))


_OWN = {name: value for name, value in vars(_Mixed).items() if name not in ("__dict__", "__weakref__")}
Light = _make("Mixed", _LIGHT.NamedTuple, _OWN)
Heavy = _make("Mixed", typing.NamedTuple, _OWN)
BOTH = pytest.mark.parametrize("kind", [Light, Heavy])


class Pickled(_LIGHT.NamedTuple):  # type: ignore[misc] # unknown to the type checker, see above
    """One that pickle finds by its name."""

    one: int
    two: str = ""


@BOTH
def test_a_tuple_with_names(kind: Any) -> None:  # noqa: ANN401
    """Made by place, by name or by default; read, compared, unpacked and shown alike."""
    one = kind("pci", more=("x",))
    assert (one.kind, one.number, one.more) == ("pci", 7, ("x",))
    assert one == ("pci", 7, ("x",)) == kind("pci", 7, ("x",)) == kind(number=7, more=("x",), kind="pci")
    assert hash(one) == hash(("pci", 7, ("x",)))
    assert len(one) == 3
    assert [*one] == ["pci", 7, ("x",)]
    assert issubclass(kind, tuple)
    assert one < kind("usb")
    assert (one.doubled, str(one), kind.of("usb").kind) == (14, "<pci>", "usb")
    assert repr(one) == "Mixed(kind='pci', number=7, more=('x',))"
    assert one._replace(number=1) == ("pci", 1, ("x",))
    assert type(one._replace(number=1)) is kind
    assert one._asdict() == {"kind": "pci", "number": 7, "more": ("x",)}
    assert list(one._asdict()) == ["kind", "number", "more"]
    assert kind._make(["usb", 1, ()]) == kind("usb", 1)
    assert type(kind._make(["usb", 1, ()])) is kind
    assert kind._fields == kind.__match_args__ == ("kind", "number", "more")
    assert kind._field_defaults == {"number": 7, "more": ()}
    assert kind.__doc__ == _Mixed.__doc__
    assert type(copy.deepcopy(one)) is type(copy.copy(one)) is kind
    match one:
        case kind("pci", number, more=(first,)):  # type: ignore[misc] # it takes the class for a tuple's
            assert (number, first) == (7, "x")  # type: ignore[has-type]
        case _:
            pytest.fail("it does not match")


@BOTH
@pytest.mark.parametrize(
    "wrong",
    [
        lambda kind: kind(),
        lambda kind: kind(number=1),
        lambda kind: kind("pci", 1, (), None),
        lambda kind: kind("pci", 1, (), more=()),
        lambda kind: kind("pci", kind="usb"),
        lambda kind: kind("pci", other=1),
        lambda kind: kind._make(["pci"]),
        lambda kind: kind._make("abcd"),
    ],
)
def test_what_is_not_one_value_for_each_field_is_refused(kind: Any, wrong: Callable[[Any], object]) -> None:  # noqa: ANN401
    """Too few, too many, twice, or by a name that it has not."""
    with pytest.raises(TypeError):
        wrong(kind)


@BOTH
def test_nothing_of_it_changes(kind: Any) -> None:  # noqa: ANN401
    """Neither a field nor what is none, and there is no room for one."""
    one = kind("pci")
    for name in ("kind", "other"):
        with pytest.raises(AttributeError):
            setattr(one, name, 1)
    assert not hasattr(one, "__dict__")
    with pytest.raises((TypeError, ValueError)):  # which of them changed with Python 3.13
        one._replace(other=1)


@BOTH
def test_what_derives_from_it_has_its_fields(kind: Any) -> None:  # noqa: ANN401
    """And methods of its own."""
    further = type("Further", (kind,), {"__slots__": (), "__annotations__": {"extra": int}, "size": property(len)})
    one = further("pci", 1)
    assert (one.kind, one.doubled, one.size, one._fields) == ("pci", 2, 3, kind._fields)
    assert type(one._replace(number=3)) is further


def test_it_is_pickled_by_name() -> None:
    """And is a tuple, so what comes back is made by the same class."""
    back = pickle.loads(pickle.dumps(Pickled(1, two="x")))  # noqa: S301 - it was written right here
    assert (back, type(back), back.two) == ((1, "x"), Pickled, "x")


@pytest.mark.parametrize("base", [_LIGHT.NamedTuple, typing.NamedTuple])
def test_a_field_without_a_default_may_not_follow_one_that_has_it(base: Any) -> None:  # noqa: ANN401
    """As with arguments."""
    with pytest.raises(TypeError):
        _make("Bad", base, {"__annotations__": {"one": int, "two": int}, "one": 1})


def _raise(error: Exception | None) -> None:
    if error:
        raise error


@pytest.mark.parametrize("suppress", [_LIGHT.suppress, contextlib.suppress])
def test_only_what_is_named_is_passed_over(suppress: Any) -> None:  # noqa: ANN401
    """With what derives from it."""
    with suppress(OSError, ValueError):
        _raise(FileNotFoundError())
    with pytest.raises(KeyError), suppress(OSError):
        _raise(KeyError())
    with pytest.raises(KeyError), suppress():
        _raise(KeyError())
    with suppress(OSError):
        pass


@pytest.mark.parametrize("manager", [_LIGHT.contextmanager, contextlib.contextmanager])
def test_a_generator_stands_around_a_body(
    manager: Callable[[Callable[..., Iterator[Any]]], Callable[..., Any]],
) -> None:
    """What it does at its end is done whatever happens within; it may pass over an error, or raise another."""
    seen: list[str] = []

    @manager
    def around(what: str, *, passes: type[BaseException] = LookupError) -> Iterator[str]:
        """Its text."""
        seen.append(what)
        try:
            yield what.upper()
        except passes:
            seen.append("passed")
        finally:
            seen.append("end")

    @manager
    def other() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise KeyError from error

    @manager
    def endless() -> Iterator[None]:
        while True:
            with contextlib.suppress(KeyError):
                yield

    assert around.__doc__ == "Its text."
    with around("a") as given:
        assert given == "A"
    with around("b"):
        _raise(KeyError())
    with pytest.raises(OSError, match="c"), around("c"):
        _raise(OSError("c"))
    with pytest.raises(StopIteration), around("d"):
        _raise(StopIteration())
    assert seen == ["a", "end", "b", "passed", "end", "c", "end", "d", "end"]
    with pytest.raises(KeyError), other():
        _raise(OSError())
    for error in (None, KeyError()):
        with pytest.raises(RuntimeError), endless():
            _raise(error)


def test_the_small_ones() -> None:
    """A literal's choices, a partial call, a mapping that nobody can change."""
    choices = _LIGHT.Literal["a", "b"]
    assert _LIGHT.get_args(choices) == typing.get_args(typing.Literal["a", "b"])
    assert _LIGHT.get_args(_LIGHT.Literal["a"]) == typing.get_args(typing.Literal["a"])
    assert _LIGHT.partial is functools.partial
    assert _LIGHT.MappingProxyType is types.MappingProxyType
    assert light.TYPE_CHECKING is False
