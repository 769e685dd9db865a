# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a guest's devices are still those that it had at their addresses. Asked only where some are not."""

from __future__ import annotations

from libhook.facts.plan import Refusal, Verdict, Warn
from libhook.facts.remedy import whom
from libhook.facts.situation import Situation
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libhook.facts.identity import Changed

_SHOWN = 3
"""So many places are named where such a device is. A card with VFs has many."""


def prepare(situation: Situation) -> Iterator[Verdict]:
    """Refuse each address that holds another device, or warn of it."""
    named = {device.pci for device in situation.domain.pci if not device.audited}
    for changed in situation.changed:
        if situation.config.identity == "refuse":
            guest = whom(situation.domain)
            in_xml = f"in the guest's XML with virsh edit {guest}"
            where = "in take_along, which libhook config shows" if changed.address in named else in_xml
            yield Refusal(f"pci {changed.address}", _reason(changed), _remedy(where, situation.domain.uuid, changed))
        else:
            yield Warn(_reason(changed))


def _reason(changed: Changed) -> str:
    where = " or ".join(map(str, changed.elsewhere[:_SHOWN]))
    which = "that device" if changed.was.serial else "a device like that"  # cards of one model look the same
    old = f"; {which} is now at {where}" if where else ""
    if changed.now is None:
        return f"{changed.address} is not on this host; the guest had {changed.was} there{old}"
    return (
        f"{changed.address} is another device than the guest had there: it was {changed.was}, "
        f"and now it is {changed.now}{old}"
    )


def _remedy(where: str, uuid: str, changed: Changed) -> str:
    correct = f"if it has moved, correct the address {where}"
    if changed.now is None:
        return correct
    # Notes outlive guests, so several may have one name.
    return f"{correct}; or, if the guest is to have this one, run: libhook accept {uuid}"
