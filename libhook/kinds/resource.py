# SPDX-License-Identifier: LGPL-2.1-or-later
"""What kinds/claims.py must know of a thing that several guests share: how to read, write and fold it."""

from __future__ import annotations

from libhook.errors import in_quotes, printable
from libhook.facts.shared import Value, file_name
from libhook.kinds.kind import Failure
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from libhook.children.tracks import Track


_WIDEST = 200


class Conflict(NamedTuple):
    """This guest's claim contradicts the others."""

    uuid: str


class Resource(NamedTuple):
    """A thing that several guests share."""

    name: str
    """Its file and locks are named after this, in every version (``file_name``): ``module-nvidia``."""
    says: str
    """The thing as a message names it: ``the module nvidia``."""
    read: Callable[[], Track[Value]]
    """Read its value now. LibhookError where that is not possible."""
    write: Callable[[str], None]
    """Write a value, in a child. May never return. OSError is the kernel's answer; what is read afterwards counts."""
    fold: Callable[[Value, Mapping[str, str]], Value | Conflict]
    """What the thing should be, from its base and what each guest wants, by UUID. At least one guest has a claim."""
    failed: Callable[[str, Value, int], Failure] | None = None
    """Why the write did not work, from the wanted value, the value now and the write's errno. None: a general text."""
    reached: Callable[[str, Value], bool] = lambda target, now: now == target
    """Whether the value now is as good as this target."""
    gives_up: bool = False
    """The base that does not come back is reported, and not tried again."""
    era: Callable[[], Track[str]] | None = None
    """A text for the time in which a value means something, where that may end before the boot does. What was noted in
    another era is void."""
    unlasting: Callable[[str], str] | None = None
    """Why nobody could give back a base that reads like this, or "". Any other base is written once before the thing is
    changed, which tells whether it can be given back. None: it can."""
    instead: str = ""
    """What to do about a base that could not be given back."""
    follow: Callable[[Value, Value, Value], Value] | None = None
    """For an amount: the new base, from the base, what libhook saw last, and what somebody else made of it."""

    @property
    def file(self) -> str:
        """The name of the thing's file, without ``.json``."""
        return file_name(self.name)

    @property
    def lock(self) -> str:
        """The name of the thing's lock, and of the file that marks a write on its way."""
        return f"shared-{self.file}"


def equal(_base: Value, wants: Mapping[str, str]) -> Value | Conflict:
    """The fold of a thing that can have only one value: all guests must want the same."""
    (first, target), *others = wants.items()
    return target if all(want == target for _, want in others) else Conflict(first)


def printed(value: Value) -> str:
    """A value for a message. A list may have many pages."""
    if value is None:
        return "nothing"
    return printable(in_quotes(value if len(value) <= _WIDEST else f"{value[:_WIDEST]}..."))


def at_once(look: Callable[[], Value]) -> Callable[[], Track[Value]]:
    """Makes a Resource.read of a function that never blocks."""

    def read() -> Track[Value]:
        yield from ()
        return look()

    return read
