# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook holds for one guest: the journal entry, the claim and the memory between events. Types and JSON.

Where it is kept, and how it survives a crash, is effects/state.py's.
"""

from __future__ import annotations

from libhook.errors import BadInput, TooNew
from libhook.facts.address import PciAddress
from libhook.facts.domain import Extra, Kind
from libhook.facts.plan import Action
from libhook.light import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container
    from typing import Any

FORMAT = 2
"""Of what is written. A later one says what a reader of this one must know and does not; what such a reader may pass
over is a new field, with a default where it is read. What has no number is of the first. In the first the one action
that a device had stood with it, as ``move``.
"""

Phase = Literal["preparing", "prepared", "starting", "refused", "started", "releasing"]
"""``starting``: every device was verified to be on vfio, and QEMU is about to run.
``refused``: nothing is taken; kept so that ``release failed`` knows which failures are recorded already."""
Recorded = Literal["nothing", "success", "failed", "unreturned"]
"""What the trail says so far: ``unreturned`` is a success, and then a ``stop`` that failed."""


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one of the same number."""

    pid: int
    start: int
    """In clock ticks since boot: field 22 of /proc/PID/stat."""


class HeldDevice(NamedTuple):
    """One host device of the guest, or another of its IOMMU group that was taken along (``kind`` pci, not audited)."""

    kind: Kind
    address: str
    recorded: Recorded = "nothing"
    audited: bool = True
    wedged: bool = False
    """A kernel write did not come back in time; its child may still be asleep."""
    began: Literal["start", "attach"] = "start"
    """Whether it came with the guest, or was plugged in later."""
    plugging: Process | None = None
    """Who is plugging it in or out; while he lives he sees to it, and to its record."""
    extra: Extra | None = None
    """As HostDevice.extra: at the end the device may be gone, and its driver before it is history."""
    ids: str = ""
    """As PciDevice.ids when it was taken: at the end another device may have its address."""

    @property
    def key(self) -> str:
        """As HostDevice.key."""
        return f"{self.kind} {self.address}"

    @property
    def pci(self) -> PciAddress | None:
        """The address, of a PCI device."""
        return PciAddress.parse(self.address) if self.kind == "pci" else None


class Held(NamedTuple):
    """One guest's record."""

    uuid: str
    name: str
    virt: str
    phase: Phase
    boot: str
    """The kernel's boot id: bindings do not outlive a boot, so neither does this."""
    libvirtd: Process
    devices: tuple[HeldDevice, ...] = ()
    lost: int = 0
    """Audit records that the kernel had lost when the guest was prepared, where the trail is required."""
    detached: tuple[str, ...] = ()
    """The keys of what was plugged out and is recorded so: two may see the same end of a device."""
    actions: tuple[Action, ...] = ()
    """What was done for the guest, or was about to be, in this order: to be undone at the end. At most one a key."""

    def device(self, key: str) -> HeldDevice | None:
        """The device of this key."""
        return next((device for device in self.devices if device.key == key), None)

    def action(self, key: str) -> Action | None:
        """What was done with a device, by the device's key. None: it is not PCI, or was on vfio before."""
        return next((action for action in self.actions if action.key == key), None)

    def part(self, devices: Collection[HeldDevice]) -> Held:
        """The same with these devices alone, and what was done with them."""
        keys = {device.key for device in devices}
        actions = tuple(action for action in self.actions if action.key in keys)
        return self._replace(devices=tuple(devices), actions=actions)

    def without(self, keys: Container[str]) -> Held:
        """The same without the actions of these keys."""
        return self._replace(actions=tuple(action for action in self.actions if action.key not in keys))

    @property
    def addresses(self) -> tuple[PciAddress, ...]:
        """Of the PCI devices."""
        return tuple(device.pci for device in self.devices if device.pci)

    @property
    def keeps(self) -> bool:
        """Whether what it holds is the guest's, or is about to be: it was not refused, and has not ended."""
        return self.phase not in ("refused", "releasing")

    def holds(self, address: PciAddress) -> bool:
        """Whether nobody else may have this device: while the guest lives, and until it is given back."""
        return any(one.pci == address and (self.keeps or self.action(one.key)) for one in self.devices)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        fields = {"format": FORMAT, **self._asdict()}
        fields["libvirtd"] = list(self.libvirtd)
        fields["devices"] = [
            {
                **device._asdict(),
                "plugging": list(device.plugging) if device.plugging else None,
                "extra": list(device.extra) if device.extra else None,
            }
            for device in self.devices
        ]
        fields["actions"] = [action.to_json() for action in self.actions]
        return fields

    @classmethod
    def from_json(cls, value: object, read: Callable[[object], Action]) -> Held:
        """Field by field; BadInput when anything is not as we write it, TooNew where a later version wrote it.

        ``read`` makes an action of what ``to_json`` made of it.
        """
        match _of_now(value) if isinstance(value, dict) else value:
            case {"format": int(written)} if written > FORMAT:
                raise TooNew(f"in format {written}, and this one reads {FORMAT}")
            case {
                "format": int(),
                "uuid": str(uuid),
                "name": str(name),
                "virt": str(virt),
                "phase": str(phase),
                "boot": str(boot),
                "libvirtd": [int(pid), int(start)],
                "devices": list(devices),
                "lost": int(lost),
                "detached": [*detached],
                "actions": list(actions),
            } if phase in get_args(Phase) and _names_a_file(name) and all(isinstance(key, str) for key in detached):
                daemon, own, done = Process(pid, start), tuple(map(_device, devices)), tuple(map(read, actions))
                _expect_own(own, done)
                return cls(uuid, name, virt, phase, boot, daemon, own, lost, tuple(detached), done)  # type: ignore[arg-type]
        raise BadInput("not a record of a guest")


def _of_now(value: dict[str, Any]) -> dict[str, Any]:
    """An entry in the form that is written now, whatever version wrote it."""
    value = {"format": 1, "detached": [], **value}
    devices = value.get("devices")
    if value["format"] == 1 and "actions" in value:
        raise BadInput("the first format has no actions")
    if value["format"] == 1 and isinstance(devices, list):
        value["actions"] = [_of_first_format(one) for one in devices if isinstance(one, dict) and one.get("move")]
    return value


def _of_first_format(device: dict[str, Any]) -> dict[object, object]:
    """The action that stood with a device; its kind was the device's."""
    match device:
        case {"kind": kind, "address": address, "move": {"device": own, **fields}} if own == address:
            return {"kind": kind, "device": own, **fields}
    raise BadInput(f"the move of {device.get('address')} is not one, or of another device")


def _expect_own(devices: tuple[HeldDevice, ...], actions: tuple[Action, ...]) -> None:
    """BadInput where an action is done twice, or on a device that is not among the guest's: nobody would lock that."""
    keys = [action.key for action in actions]
    if len(set(keys)) < len(keys):
        raise BadInput("it has two actions on one thing")
    known = {device.key for device in devices}
    for key in keys:
        if key.partition(" ")[0] in get_args(Kind) and key not in known:
            raise BadInput(f"it has an action on {key}, which is no device of the guest")


def _names_a_file(name: str) -> bool:
    """Whether the kernel would take it for one: libvirt's files go by the guest's name."""
    try:
        return b"\0" not in name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _device(value: object) -> HeldDevice:
    match {"began": "start", "plugging": None, "extra": None, "ids": "", **value} if isinstance(value, dict) else value:
        case {
            "kind": str(kind),
            "address": str(address),
            "recorded": str(recorded),
            "audited": bool(audited),
            "wedged": bool(wedged),
            "began": "start" | "attach" as began,
            "plugging": None | [int(), int()] as plugging,
            "extra": None | [str(), str(), str()] as extra,
            "ids": str(ids),
        } if kind in get_args(Kind) and recorded in get_args(Recorded):
            who = None if plugging is None else Process(*plugging)
            told = None if extra is None else Extra(*extra)
            if kind == "pci":
                PciAddress.parse(address)
            return HeldDevice(kind, address, recorded, audited, wedged, began, who, told, ids)  # type: ignore[arg-type]
    raise BadInput("not a held device")
