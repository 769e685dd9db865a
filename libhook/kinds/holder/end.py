# SPDX-License-Identifier: LGPL-2.1-or-later
"""The action that ends what has devices open, and the decision how each holder is ended. Data and pure functions."""

from __future__ import annotations

from libhook.facts.address import PciAddress
from libhook.facts.program import SESSIONS
from libhook.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from libhook.look.occupants import Occupant, Session

NAME = "holder"
SETTING = "end"
TERM_SECONDS, KILL_SECONDS = 10.0, 5.0
"""That a process may take to end after SIGTERM, and after SIGKILL."""
_GOES = "this does not come back"


class End(NamedTuple):
    """End the sessions, or the processes of one program, that have these devices open."""

    what: str
    """``sessions``, or the program's path."""
    devices: tuple[PciAddress, ...]
    seen: tuple[str, ...] = ()
    """What that is, as far as it was seen for the plan. What is found then is what is ended."""
    needs: tuple[str, ...] = ()
    kind: str = NAME
    ours: bool = True
    is_undone: bool = False
    """Nobody can bring it back."""

    @property
    def key(self) -> str:
        """See Action."""
        return f"{NAME} {self.what}"

    @property
    def subject(self) -> str:
        """See Action."""
        return self.what

    @property
    def provides(self) -> tuple[str, ...]:
        """That no process has the devices open."""
        return tuple(f"{device} is free" for device in self.devices)

    @property
    def summary(self) -> str:
        """See Action."""
        return "ended"

    def describe(self) -> tuple[str, ...]:
        """What is ended, and that it stays so; then each session or process."""
        devices = " or ".join(map(str, self.devices))
        if self.what == SESSIONS:
            return (
                f"end each session that has {devices} open: {_GOES}",
                *(f"  loginctl terminate-session: {one}" for one in self.seen),
            )
        return (
            f"end {self.what} where it has {devices} open: {_GOES}",
            *(f"  SIGTERM, and after {TERM_SECONDS:.0f} s SIGKILL: {one}" for one in self.seen),
        )

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {"kind": NAME, "end": self.what}

    def show(self) -> dict[str, Any]:
        """See Action."""
        return {"action": "end", "what": self.what, "devices": [*map(str, self.devices)], "now": [*self.seen]}


def ways_of(those: Iterable[Occupant], listed: Sequence[str]) -> dict[Occupant, str]:
    """How each is ended, by the item of the list; "" where it may not be. Agents let go with a session."""
    ways: dict[Occupant, str] = {}
    for one in those:
        in_session = one.session is not None and SESSIONS in listed
        ways[one] = "" if one.is_spared else one.program or (SESSIONS if in_session else "")
    if SESSIONS in ways.values():
        ways |= {one: SESSIONS for one in ways if one.is_agent}
    return ways


def in_words(ways: Mapping[Occupant, str]) -> dict[str, list[str]]:
    """What is ended, by the item: processes, or sessions with those of their processes."""
    words: dict[str, list[str]] = {}
    of_session: dict[Session, list[str]] = {}
    for one, way in ways.items():
        if way == SESSIONS and one.session:
            of_session.setdefault(one.session, []).append(str(one))
        elif way not in ("", SESSIONS):
            words.setdefault(way, []).append(str(one))
    for session in sorted(of_session):
        words.setdefault(SESSIONS, []).append(f"{session}, with {', '.join(of_session[session])}")
    return words
