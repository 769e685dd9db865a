# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is to be done, as data: printed by the dry run, journalled before it is done, applied, and undone.

Every line that is printed, logged or journalled comes from ``describe`` here, so the dry run cannot differ from
what happens.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from libhook.errors import BadInput, printable
from libhook.facts.address import PciAddress
from libhook.facts.host import Binding, same_driver

DRIVERS_PROBE = "bus/pci/drivers_probe"


class Write(NamedTuple):
    """One write(2) to an attribute; ``path`` is relative to /sys."""

    path: str
    value: str

    def describe(self) -> str:
        """``write "vfio-pci" to /sys/…``."""
        return printable(f'write "{self.value}" to /sys/{self.path}')


def set_override(device: PciAddress, override: str) -> Write:
    """The override, or a lone line feed, which unsets it; an empty string would make no write(2) at all."""
    return Write(f"bus/pci/devices/{device}/driver_override", override or "\n")


def unbind(device: PciAddress, driver: str) -> Write:
    """From this driver, and no other: -ENODEV should the device have changed hands since we looked."""
    return Write(f"bus/pci/drivers/{driver}/unbind", str(device))


def probe(device: PciAddress) -> Write:
    """Let the kernel choose by override, then by id. Succeeds also when nothing bound."""
    return Write(DRIVERS_PROBE, str(device))


def bind(device: PciAddress, driver: str) -> Write:
    """By name, which answers with the driver's own error."""
    return Write(f"bus/pci/drivers/{driver}/bind", str(device))


class Load(NamedTuple):
    """Load the module of a driver that the kernel does not have yet. Never undone: others may use it by then."""

    driver: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"load the module of {self.driver}",)


class Move(NamedTuple):
    """Take a device from the binding it has to the one it shall have."""

    device: PciAddress
    now: Binding
    want: Binding
    why: str
    by: Literal["libhook", "libvirt"] = "libhook"
    """``libvirt``: for a managed device it is foretold, and checked, but not ours to make."""
    back: bool = False
    """The way back to what was, rather than to a vfio driver."""
    meanwhile: str | None = None
    """The override under which it changes hands, where the one that it shall have would keep away the driver that it
    shall have: somebody had set that and not yet acted on it, or it is none and the device needs one."""

    @property
    def override_first(self) -> str:
        """The override under which it changes hands."""
        return self.want.override if self.meanwhile is None else self.meanwhile

    @property
    def override_last(self) -> bool:
        """Whether it gets the one that it shall have only once it is there."""
        return self.override_first != self.want.override

    @property
    def writes(self) -> tuple[Write, ...]:
        """In order, as long as nobody else interferes.

        The override comes first: from then on nobody else's probe can give the device to another driver. A device
        that shall end without a driver is not probed.
        """
        writes = []
        if self.override_first != self.now.override:
            writes.append(set_override(self.device, self.override_first))
        if not same_driver(self.now.driver, self.want.driver):
            if self.now.driver is not None:
                writes.append(unbind(self.device, self.now.driver))
            if self.want.driver is not None:
                writes.append(probe(self.device))
        if self.override_last:
            writes.append(set_override(self.device, self.want.override))
        return tuple(writes)

    def describe(self) -> tuple[str, ...]:
        """A line of what and why, then one for each write."""
        ways = f"{self.now.driver or 'no driver'} -> {self.want.driver or 'no driver'}"
        head = printable(f"{self.device}: {ways} ({self.why})")
        if self.by == "libvirt":
            return (head,)
        return (head, *(f"  {write.describe()}" for write in self.writes))

    def to_json(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "device": str(self.device),
            "now": list(self.now),
            "want": list(self.want),
            "why": self.why,
            "by": self.by,
        }

    @classmethod
    def from_json(cls, value: object) -> "Move":
        """Field by field: a journal is read by root after a crash. BadInput when it is not one of ours."""
        match value:
            case {
                "device": str(device),
                "now": [str() | None as driver, str(override)],
                "want": [str() | None as target, str(target_override)],
                "why": str(why),
                "by": "libhook" | "libvirt" as by,
            } if all("/" not in name for name in (driver or "", target or "")):
                return cls(
                    PciAddress.parse(device), Binding(driver, override), Binding(target, target_override), why, by
                )
        raise BadInput("not a move of a device")


class Record(NamedTuple):
    """An audit record to send: of which device (its ``key``), the text, and the result it shall say."""

    device: str
    text: str
    success: bool
    ends: bool = False
    """It tells of the device's end with the guest, rather than of its beginning."""

    def describe(self) -> tuple[str, ...]:
        """One line; the text holds no byte that a terminal would obey, its encoding sees to that."""
        return (f"record {self.text} res={'success' if self.success else 'failed'}",)


class Refusal(NamedTuple):
    """Why the guest may not have a device, and what would help."""

    device: str
    """``key`` of the guest's device that is refused."""
    reason: str
    remedy: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"refuse: {self.line}",)

    @property
    def line(self) -> str:
        """For the caller of ``virsh start``."""
        return printable(f"{self.reason}: {self.remedy}")


class Warn(NamedTuple):
    """Something the administrator should know; nothing is done about it."""

    message: str

    def describe(self) -> tuple[str, ...]:
        """One line."""
        return (f"warning: {printable(self.message)}",)


Action = Load | Move | Record | Refusal | Warn


class Plan(NamedTuple):
    """What the handlers of one event want, in order."""

    actions: tuple[Action, ...]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Not empty: nothing of the plan may be applied."""
        return tuple(action for action in self.actions if isinstance(action, Refusal))

    @property
    def moves(self) -> tuple[Move, ...]:
        """The devices that change hands, ours to move or libvirt's."""
        return tuple(action for action in self.actions if isinstance(action, Move))

    @property
    def loads(self) -> tuple[Load, ...]:
        """The drivers that must be there first."""
        return tuple(action for action in self.actions if isinstance(action, Load))

    @property
    def records(self) -> tuple[Record, ...]:
        """The audit records."""
        return tuple(action for action in self.actions if isinstance(action, Record))

    def describe(self) -> tuple[str, ...]:
        """Every line of it: what the dry run prints."""
        return describe(self.actions)


def describe(actions: Iterable[Action]) -> tuple[str, ...]:
    """The lines of these actions, in order."""
    return tuple(line for action in actions for line in action.describe())


def way_back(taken: Move, current: Binding, *, needs_override: bool = False) -> Move | None:
    """What gives a device back, from the state in which it is found; None when there is nothing to do.

    Decides from what is there, not from how far a plan had come, so it serves after a crash at any point, and twice.
    Only our own doing is undone: an override that is not the one we set and a driver that is neither ours nor none
    are somebody else's, and stay. A device that ``needs_override`` to be driven at all gets its driver's own for as
    long as that takes.
    """
    driver, override = current
    blocks = _blocks(taken.now)
    if driver is None or same_driver(driver, taken.want.driver):
        driver = taken.now.driver
    on_the_way = needs_override and override != "" and override == taken.now.driver
    unset = not override and (blocks or taken.by == "libvirt") and driver == taken.now.driver
    ours = unset or on_the_way or same_driver(override or None, taken.want.override or None)
    if ours:  # libvirt unsets it (virPCIDeviceReattach)
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
    """Whether the override that was set would keep the driver away that has the device nevertheless."""
    driver, override = binding
    return driver is not None and override != "" and not same_driver(driver, override)
