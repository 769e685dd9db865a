# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a guest's devices are still those that it had at its last start. Asked only where some are not."""

from __future__ import annotations

from libhook.facts.plan import Refusal, Verdict, Warn
from libhook.facts.situation import Situation
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from libhook.facts.identity import Changed


def prepare(situation: Situation) -> Iterator[Verdict]:
    """Refuse each address that holds another device, or warn of it."""
    for changed in situation.changed:
        if situation.config.identity == "refuse":
            yield Refusal(f"pci {changed.address}", _reason(changed), _remedy(situation.domain.uuid, changed))
        else:
            yield Warn(_reason(changed))


def _reason(changed: Changed) -> str:
    where = " or ".join(map(str, changed.elsewhere))
    old = f"; that device is now at {where}" if where else ""
    if changed.now is None:
        return f"{changed.address} is not on this host; the guest had {changed.was} there at its last start{old}"
    return (
        f"{changed.address} is another device than at the guest's last start: it was {changed.was}, "
        f"and now it is {changed.now}{old}"
    )


def _remedy(uuid: str, changed: Changed) -> str:
    correct = f"correct the address in the guest's XML with virsh edit {uuid}"
    return (
        correct
        if changed.now is None
        else f"{correct}; or, if the guest is to have this one, run: libhook accept {uuid}"
    )
