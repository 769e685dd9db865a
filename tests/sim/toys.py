# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kind of action for the tests, which calls a function, and handlers for them."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from libhook.errors import BadInput
from libhook.facts.entry import Held
from libhook.facts.plan import Action, Stays, Warn
from libhook.facts.situation import Situation
from libhook.handlers import registry as handler_registry
from libhook.kinds import registry
from libhook.kinds.kind import Failure, Kind, Outcome, Work

NAME = "toy"


class Toy(NamedTuple):
    """One of them, by its name."""

    subject: str
    needs: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    back: bool = False

    @property
    def kind(self) -> str:
        """See Action."""
        return NAME

    @property
    def key(self) -> str:
        """See Action."""
        return f"toy {self.subject}"

    @property
    def ours(self) -> bool:
        """See Action."""
        return True

    @property
    def is_undone(self) -> bool:
        """See Action."""
        return True

    @property
    def summary(self) -> str:
        """See Action."""
        return "played with"

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        return (f"{'undo ' if self.back else ''}{self.subject}",)

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "subject": self.subject, "provides": list(self.provides)}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": NAME, "subject": self.subject}


class Toys:
    """The kind, as the tests have it: what each action does and how it is undone, and what was done in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, does: Mapping[str, Callable[[], None]] | None = None) -> None:
        """``does``: by name; one that raises OSError fails, and ``undo NAME`` undoes."""
        self.does = dict(does or {})
        self.done: list[str] = []
        monkeypatch.setitem(
            registry.KINDS, NAME, Kind(NAME, _read, lambda _config, _toys: 5.0, self._carry_out, _way_back)
        )

    def _carry_out(self, _work: Work, toys: Sequence[Toy]) -> list[Outcome]:
        return [Outcome(toy, self._play(toy.describe()[0]), 0.0) for toy in toys]

    def _play(self, what: str) -> Failure | None:
        self.done.append(what)
        try:
            self.does.get(what, lambda: None)()
        except OSError as error:
            return Failure(f"{what} failed ({error.strerror})", "mend it")
        return None


def asked(
    monkeypatch: pytest.MonkeyPatch, operation: str, *handlers: Callable[[Situation], object], besides: bool = False
) -> None:
    """Have these handlers asked at an operation, ``besides`` libhook's own or alone. Faults say ``testing.NAME``."""
    name = f"{handler_registry.__package__}.testing"
    module = sys.modules.get(name, ModuleType(name))
    monkeypatch.setitem(sys.modules, name, module)
    names = []
    for handler in handlers:
        function = handler.__name__ + "_again" * hasattr(module, handler.__name__)
        monkeypatch.setattr(module, function, handler, raising=False)
        names.append(f"testing.{function}")
    monkeypatch.setitem(
        handler_registry.HANDLERS, operation, (*names, *(handler_registry.HANDLERS[operation] if besides else ()))
    )


def _read(value: Mapping[str, Any]) -> Toy:
    match value:
        case {"subject": str(subject), "provides": list(provides)}:
            return Toy(subject, provides=tuple(map(str, provides)))
    raise BadInput("not a toy")


def _way_back(_work: Work, _held: Held, toys: Sequence[Toy]) -> Iterator[Action | Stays | Warn]:
    yield from (toy._replace(back=True) for toy in toys)
