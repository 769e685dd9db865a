# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ends what has a guest's device open: sessions, and processes of programs that the settings list.

None of that comes back at the guest's end, so nothing of it is journalled. It comes after all that may refuse the start
without it. If any holder may not be ended, none is.

end.py      the action
ending.py   how it is carried out
"""

from __future__ import annotations

from libhook.effects import systemd as acting
from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.entry import Held
from libhook.facts.plan import Action, Condition, Refusal, Stays, Verdict, Warn
from libhook.facts.program import SESSIONS
from libhook.facts.situation import Situation
from libhook.kinds.holder.end import KILL_SECONDS, NAME, SETTING, TERM_SECONDS, End, in_words, ways_of
from libhook.kinds.holder.ending import carry_out, programs, run
from libhook.kinds.kind import Kind, Work
from libhook.light import TYPE_CHECKING
from libhook.look import occupants

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from libhook.look.occupants import Occupant


def read(_value: Mapping[str, Any]) -> End:
    """See Kind. None is ever journalled."""
    raise BadInput("what was ended is never journalled")


def look(work: Work) -> Mapping[int, Occupant]:
    """See Kind. Each process that has a device open, by its pid."""
    pids = [use.pid for uses in work.host.uses.values() for use in uses if use.pid]
    return {one.pid: one for one in run(work, occupants.of_pids(work.machine, pids, programs(work)))} if pids else {}


def wanted(situation: Situation) -> Iterator[Verdict]:
    """See Kind. An action for each item of the list that has something to do.

    A device is freed only if all that stands in its way may be ended.
    """
    listed, seen = situation.config.actions[SETTING], situation.looked.get(NAME, {})
    devices: dict[str, list[PciAddress]] = {}
    shown: dict[str, dict[str, None]] = {}
    for address, uses in situation.host.uses.items():
        pids = {use.pid for use in uses if situation.config.strictness(use.kind) == "refuse"}
        ways = ways_of([seen[pid] for pid in pids & seen.keys()], listed)
        own, others = in_words(ways), ", ".join(str(one) for one, way in ways.items() if not way)
        if own and (others or pids - seen.keys()):
            what = ", ".join(text for texts in own.values() for text in texts)
            yield Warn(f"{address}: if it is free of all else, this is ended, and does not come back: {what}")
            if others:
                reason = f"{address} is also open in {others}, which may not be ended"
                yield Condition(
                    f"{address} is free", Refusal(f"pci {address}", reason, "stop it first, or name it in end, too")
                )
            continue
        for item, texts in own.items():
            devices.setdefault(item, []).append(address)
            shown.setdefault(item, {}).update(dict.fromkeys(texts))
    loaded_first = tuple(f"driver {driver}" for driver in sorted(situation.host.vfio_drivers))
    for item in sorted(devices, key=lambda item: item != SESSIONS):
        yield End(item, tuple(devices[item]), tuple(shown[item]), loaded_first)


def way_back(_work: Work, _held: Held, _actions: Sequence[End]) -> Iterator[Action | Stays | Warn]:
    """See Kind. There is none."""
    yield from ()


def _seconds(_config: Config, _actions: Sequence[Action]) -> float:
    return acting.END_SECONDS + TERM_SECONDS + KILL_SECONDS + 30


KIND = Kind(NAME, read, _seconds, carry_out, way_back, look=look, wanted=wanted)
__all__ = ["KIND", "End", "carry_out", "read"]
