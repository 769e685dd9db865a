# SPDX-License-Identifier: LGPL-2.1-or-later
"""The action that moves a device from its binding to another one, and the way back. Data and pure functions."""

from __future__ import annotations

from libhook.effects.pci import Write, probe, set_override, unbind
from libhook.errors import BadInput, printable
from libhook.facts.address import PciAddress
from libhook.facts.host import Binding, same_driver
from libhook.light import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAME = "pci"


def driver_out(driver: str) -> str:
    """The state that a driver is kept out of the kernel, as the action that does it calls the state."""
    return f"driver {driver} is out"


ANY_DRIVER_OUT = "any driver may be out"
"""The state after what may take drivers out of the kernel, and does not say which: an old script."""


class Move(NamedTuple):
    """Take a device from the binding ``now`` to the binding ``want``."""

    device: PciAddress
    now: Binding
    want: Binding
    why: str
    by: Literal["libhook", "libvirt"] = "libhook"
    """``libvirt``: libvirt moves this managed device. libhook prints, journals and checks that, and undoes what is
    left."""
    back: bool = False
    """The device goes back to what was, not to a vfio driver."""
    meanwhile: str | None = None
    """The override to use during the move, where ``want.override`` would keep the wanted driver away from the device.

    That happens where somebody had set an override without moving the device yet. It also happens where
    ``want.override`` is "" and the device needs one."""
    kind: str = NAME
    provides: tuple[str, ...] = ()
    is_undone: bool = True
    later: bool = False
    """The wanted driver is out of the kernel, and takes the device when it comes back. Until then none is right."""

    @property
    def key(self) -> str:
        """See Action. The guest's device has the same key."""
        return f"pci {self.device}"

    @property
    def subject(self) -> str:
        """See Action."""
        return str(self.device)

    @property
    def needs(self) -> tuple[str, ...]:
        """That the driver is loaded that libhook binds, and that the host's is out, if an action takes it out.

        The host's is where the device goes at the guest's end, so another guest's action must not take it out.
        """
        if self.back:
            return ()
        wanted = (f"driver {self.want.driver}",) if self.ours and self.want.driver else ()
        return (*wanted, driver_out(self.now.driver)) if self.now.driver else wanted

    @property
    def ours(self) -> bool:
        """See Action."""
        return self.by == "libhook"

    @property
    def override_first(self) -> str:
        """The override during the move."""
        return self.want.override if self.meanwhile is None else self.meanwhile

    @property
    def override_last(self) -> bool:
        """Whether ``want.override`` is set only after the move."""
        return self.override_first != self.want.override

    @property
    def writes(self) -> tuple[Write, ...]:
        """The writes that are expected, in order. ``carry_out`` decides on each write again from what it finds.

        A test compares the two. The override comes first: from then on no other probe can give the device to another
        driver. A device that should end without a driver is not probed.
        """
        writes = []
        if self.override_first != self.now.override:
            writes.append(set_override(self.device, self.override_first))
        if not same_driver(self.now.driver, self.want.driver):
            if self.now.driver is not None:
                writes.append(unbind(self.device, self.now.driver))
            if self.want.driver is not None and not self.later:
                writes.append(probe(self.device))
        if self.override_last:
            writes.append(set_override(self.device, self.want.override))
        return tuple(writes)

    @property
    def summary(self) -> str:
        """See Action."""
        return printable(f"{self.now.driver or 'no driver'} -> {self.want.driver or 'no driver'}")

    def describe(self) -> tuple[str, ...]:
        """See Action."""
        head = printable(f"{self.device}: {self.summary} ({self.why})")
        if not self.ours:
            return (head,)
        return (head, *(f"  {write.describe()}" for write in self.writes))

    def to_json(self) -> dict[str, Any]:
        """See Action."""
        return {
            "kind": NAME,
            "device": str(self.device),
            "now": list(self.now),
            "want": list(self.want),
            "why": self.why,
            "by": self.by,
        }

    def show(self) -> dict[str, Any]:
        """See Action."""
        fields = {**self.to_json(), "now": self.now._asdict(), "want": self.want._asdict()}
        del fields["kind"]
        writes = [{"path": f"/sys/{write.path}", "value": write.value} for write in self.writes if self.ours]
        return {"action": "move", **fields, "writes": writes}


def read(value: Mapping[str, Any]) -> Move:
    """See Kind. Read field by field, because root acts on the journal after a crash."""
    match value:
        case {
            "device": str(device),
            "now": [str() | None as driver, str(override)],
            "want": [str() | None as target, str(target_override)],
            "why": str(why),
            "by": "libhook" | "libvirt" as by,
        } if all("/" not in name for name in (driver or "", target or "")):
            now, want = Binding(driver, override), Binding(target, target_override)
            return Move(PciAddress.parse(device), now, want, why, by)
    raise BadInput("not a move of a device")


def undo(taken: Move, current: Binding, *, needs_override: bool = False) -> Move | None:
    """The move that gives a device back from the state in which it is found. None when there is nothing to do.

    It depends on what is there, not on how far a plan came. So it works after a crash at any point, and may run twice.
    Only our own changes are undone. An override that we did not set is somebody else's, and stays. So does a driver
    that is neither ours nor none. Where a device ``needs_override`` to get any driver, the driver's own name is its
    override during the move.
    """
    driver, override = current
    blocks = _blocks(taken.now)
    if driver is None or same_driver(driver, taken.want.driver):
        driver = taken.now.driver
    on_the_way = needs_override and override != "" and override == taken.now.driver
    unset = not override and (blocks or taken.by == "libvirt") and driver == taken.now.driver
    ours = unset or on_the_way or same_driver(override or None, taken.want.override or None)
    if ours:  # libvirt unsets its own override (virPCIDeviceReattach)
        override = taken.now.override
    want = Binding(driver, override)
    if want == current:
        return None
    back = Move(taken.device, current, want, "give back", back=True)
    if same_driver(current.driver, driver):
        return back
    if blocks and want == taken.now:
        back = back._replace(meanwhile="")
    if needs_override and not back.override_first:
        back = back._replace(meanwhile=driver)
    return back


def _blocks(binding: Binding) -> bool:
    """Whether the device is on a driver that its override would keep away at the next probe."""
    driver, override = binding
    return driver is not None and override != "" and not same_driver(driver, override)
