# SPDX-License-Identifier: LGPL-2.1-or-later
"""Says once what is true of several devices. Pure. Imported only where something is refused."""

from __future__ import annotations

from libhook.facts.plan import Refusal
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from libhook.facts.plan import Verdict

_PLURAL = {"is": "are", "has": "have", "shares": "share", "hangs": "hang", "does": "do"}
_SHOWN = 3
"""How many of many devices are named."""
_PROCESS, _NODE = "(pid ", ", /dev/"


def joined(refusals: Iterable[Refusal]) -> list[Refusal]:
    """The refusals in their order, with one for each cause. Its ``device`` is the first that it is about.

    Refusals that differ only in the device they begin with, or in which node of it a process has open, are one:
    ``0000:03:00.0 and 0000:03:00.1 are …``. Of others with one remedy the reasons stand together.
    """
    alike: dict[tuple[str, str], list[Refusal]] = {}
    for one in refusals:
        alike.setdefault((_without_node(_shape(one)), one.remedy), []).append(one)
    by_remedy: dict[str, list[Refusal]] = {}
    for (_, remedy), those in alike.items():
        by_remedy.setdefault(remedy, []).append(those[0]._replace(reason=_reason(those)))
    return [
        those[0]._replace(reason="; and ".join(dict.fromkeys(one.reason for one in those)))
        for those in by_remedy.values()
    ]


def said_once(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """The verdicts for a reader: all refusals, joined, where the first of them stands."""
    verdicts = tuple(verdicts)
    refusals = [one for one in verdicts if isinstance(one, Refusal)]
    for one in verdicts:
        if not isinstance(one, Refusal):
            yield one
        elif one is refusals[0]:
            yield from joined(refusals)


def _address(refusal: Refusal) -> str:
    """The device that the reason begins with, or ""."""
    address = refusal.device.rpartition(" ")[2]
    return address if refusal.reason.startswith((f"{address} ", f"{address}:")) else ""


def _shape(refusal: Refusal) -> str:
    """The reason without the device that it begins with."""
    address = _address(refusal)
    return f"\0{refusal.reason[len(address) :]}" if address else refusal.reason


def _without_node(reason: str) -> str:
    """``Xorg (pid 812)`` for ``Xorg (pid 812, /dev/dri/card0)``."""
    begin = reason.find(_NODE, reason.rfind(_PROCESS) + 1 or len(reason))
    end = reason.find(")", begin)
    return reason if -1 in (begin, end) else reason[:begin] + reason[end:]


def _reason(those: Sequence[Refusal]) -> str:
    """The reason of refusals that are alike."""
    addresses = list(dict.fromkeys(filter(None, map(_address, those))))
    first = those[0].reason
    if len(addresses) < 2:
        return first
    rest = first[len(addresses[0]) :]
    if len(set(map(_shape, those))) > 1:
        rest = _without_node(rest)
    verb = rest[1:].partition(" ")[0]
    if rest[0] == " " and verb in _PLURAL:
        rest = f" {_PLURAL[verb]}{rest[1 + len(verb) :]}"
    *most, last = addresses
    if len(addresses) > _SHOWN + 1:
        most, last = addresses[:_SHOWN], f"{len(addresses) - _SHOWN} more"
    return f"{', '.join(most)} and {last}{rest}"
