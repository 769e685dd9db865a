# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook keeps for one guest between events: the journal entry. Types and JSON.

effects/state.py decides where the entry is stored and how it survives a crash.
"""

from __future__ import annotations

from libhook.errors import BadInput, TooNew
from libhook.errors import named as unpasted
from libhook.facts.address import PciAddress
from libhook.facts.domain import Extra, Kind
from libhook.facts.host import NO_CLASS
from libhook.facts.plan import Action
from libhook.light import TYPE_CHECKING, Literal, MappingProxyType, NamedTuple, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping
    from typing import Any

FORMAT = 2
"""The format number of what is written.

A higher number means that the entry says something that a reader of this format must know and does not. A new field
that such a reader may ignore does not raise the number: the field has a default where it is read. An entry without a
number has format 1. In format 1 a device's only action was stored inside the device, as ``move``.

``settled`` is such a field. A reader that ignores it gives back all the same: what was done is in ``actions``. It only
does without what handlers by others wanted at the rest of the start."""

Phase = Literal["preparing", "prepared", "starting", "refused", "started", "releasing"]
"""``starting``: every device was verified to be on vfio, and QEMU is about to run.
``refused``: nothing is taken. The entry is kept so that ``release failed`` knows which failures are already recorded.
"""
_LATER_FIELDS: dict[str, Any] = {
    "began": "start",
    "plugging": None,
    "extra": None,
    "ids": "",
    "pci_class": NO_CLASS,
    "brought": [],
    "named": False,
    "subsystem": "",
    "serial": "",
    "pooled": False,
    "pending": "",
}
"""What a device has in an entry whose version did not know these fields."""
Recorded = Literal["nothing", "success", "failed", "unreturned"]
"""What the audit trail says so far. ``unreturned``: a success, and after it a ``stop`` that failed."""

Pending = Literal["", "begin", "again", "kept"]
"""What happened to a device of a guest that runs, and is about to be recorded.

``begin``: the guest has it now. ``again``: it went and came back before anybody saw that it was gone. ``kept``: the
guest refused to give it up."""


class Process(NamedTuple):
    """A process, identified so that a later process with the same pid is not mistaken for it."""

    pid: int
    start: int
    """When the process started, in clock ticks since boot: field 22 of /proc/PID/stat."""


class HeldDevice(NamedTuple):
    """One host device of the guest, or a device of its IOMMU group or of its settings that was taken along.

    A device that was taken along has kind ``pci`` and is not audited.
    """

    kind: Kind
    address: str
    recorded: Recorded = "nothing"
    audited: bool = True
    wedged: bool = False
    """A kernel write did not return in time. The child that does it may still be blocked."""
    began: Literal["start", "attach"] = "start"
    """Whether the device came with the guest's start, or was plugged in later."""
    plugging: Process | None = None
    """The process that plugs the device in or out. While it lives, the device and its audit record are its task."""
    extra: Extra | None = None
    """Like HostDevice.extra. At the guest's end the device may be gone, and its host driver forgotten."""
    ids: str = ""
    """Like PciDevice.ids, from when the device was taken. At the guest's end another device may have this address."""
    pci_class: int = NO_CLASS
    """Like PciDevice.pci_class, and from then, too. An entry of an earlier version has none."""
    brought: tuple[str, ...] = ()
    """The keys of the actions that were taken because it was plugged in. They go with it, but for those that another
    device has brought, too."""
    named: bool = False
    """``take_along`` names it. So it stays until the guest's end: the guest may use it past libvirt."""
    subsystem: str = ""
    """Like ``ids``, and the serial number, too (facts/host.py)."""
    serial: str = ""
    pooled: bool = False
    """A VF that libvirt chose out of a pool. At another start that may be another."""
    pending: Pending = ""
    """Journalled before the audit record is sent, under the guest's lock. So whoever has the lock and finds this knows
    that the sender was killed, before or after it sent: the record is sent once more. Twice is better than never.
    ``recorded`` says what it will say then, so whoever does not know this field takes the device for the guest's."""

    @property
    def after_pending(self) -> HeldDevice:
        """The device once what is pending has been sent. After ``again`` its second beginning is pending."""
        if self.pending == "again":
            return self._replace(recorded="success", began="attach", pending="begin")
        return self._replace(pending="")

    @property
    def key(self) -> str:
        """Like HostDevice.key."""
        return f"{self.kind} {self.address}"

    @property
    def pci(self) -> PciAddress | None:
        """The PCI address, or None for a device of another kind."""
        return PciAddress.parse(self.address) if self.kind == "pci" else None


class Held(NamedTuple):
    """The journal entry of one guest."""

    uuid: str
    name: str
    virt: str
    phase: Phase
    boot: str
    """The kernel's boot id. Bindings do not outlive a boot, so the entry does not either."""
    libvirtd: Process
    devices: tuple[HeldDevice, ...] = ()
    lost: int = 0
    """The kernel's count of lost audit records when the guest was prepared. Set where the trail is required."""
    detached: tuple[str, ...] = ()
    """The keys of devices that were plugged out and recorded as such. Two processes may see the same unplugging."""
    actions: tuple[Action, ...] = ()
    """What was done or about to be done for the guest, in this order. Undone at its end. At most one action per key."""
    settled: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """What handlers by others have set at ``prepare``, by the handler. Later steps of the start go by that."""

    def by_key(self) -> dict[str, HeldDevice]:
        """The devices by their keys."""
        return {device.key: device for device in self.devices}

    def actions_by_key(self) -> dict[str, Action]:
        """The actions by their keys. A device that is not PCI, or was on vfio before, has none."""
        return {action.key: action for action in self.actions}

    def keys_of(self, devices: Collection[HeldDevice]) -> set[str]:
        """The keys of the actions that leave the entry with these devices."""
        keys = {device.key for device in devices}
        staying = {key for device in self.devices if device.key not in keys for key in device.brought}
        return keys | ({key for device in devices for key in device.brought} - staying)

    def part(self, devices: Collection[HeldDevice]) -> Held:
        """The same entry with only these devices and their actions."""
        keys = self.keys_of(devices)
        actions = tuple(action for action in self.actions if action.key in keys)
        return self._replace(devices=tuple(devices), actions=actions)

    def without(self, keys: Container[str]) -> Held:
        """The same entry without the actions that have these keys."""
        return self._replace(actions=tuple(action for action in self.actions if action.key not in keys))

    @property
    def has_pending(self) -> bool:
        """Whether what happened to a device is still to be recorded."""
        return any(device.pending for device in self.devices)

    @property
    def addresses(self) -> tuple[PciAddress, ...]:
        """The addresses of the PCI devices."""
        return tuple(device.pci for device in self.devices if device.pci)

    @property
    def is_active(self) -> bool:
        """Whether the guest has the devices, or is about to get them: it was not refused, and it has not ended."""
        return self.phase not in ("refused", "releasing")

    @property
    def holds(self) -> bool:
        """Whether it holds something. The entry of a refused start may hold nothing."""
        return bool(self.actions or (self.devices and self.is_active))

    def kept(self) -> frozenset[PciAddress]:
        """The devices that no other guest may have: while the guest lives, and until each is given back."""
        undone = {action.key for action in self.actions}
        return frozenset(one.pci for one in self.devices if one.pci and (self.is_active or one.key in undone))

    def to_json(self) -> dict[str, Any]:
        """The entry as plain data."""
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
        if not fields.pop("settled"):
            return fields
        fields["settled"] = {name: dict(table) for name, table in self.settled.items()}
        return fields

    @classmethod
    def from_json(cls, value: object, read: Callable[[object], Action]) -> Held:
        """Read the entry field by field.

        BadInput where anything is not as ``to_json`` writes it. TooNew where a later version wrote it. ``read`` turns
        one action's JSON back into the action.
        """
        match _of_now(value) if isinstance(value, dict) else value:
            case {"format": int(written)} if written > FORMAT:
                raise TooNew(f"in format {written}; this version reads {FORMAT}")
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
                "settled": dict(settled),
            } if (
                phase in get_args(Phase)
                and _names_a_file(name)
                and all(isinstance(key, str) for key in detached)
                and all(isinstance(table, dict) for table in settled.values())
            ):
                daemon, own, done = Process(pid, start), tuple(map(_device, devices)), tuple(map(read, actions))
                _expect_own(own, done)
                return cls(uuid, name, virt, phase, boot, daemon, own, lost, tuple(detached), done, settled)  # type: ignore[arg-type]
        raise BadInput("not a guest's journal entry")


def what_is_set(settled: Mapping[str, Mapping[str, Any]]) -> str:
    """What handlers by others have set, in words: whoever reads a refusal is to find them."""
    return "; ".join(f"handler {name} sets {', '.join(table)}" for name, table in settled.items())


def _of_now(value: dict[str, Any]) -> dict[str, Any]:
    """The entry's data in today's format, whichever version wrote it."""
    value = {"format": 1, "detached": [], "settled": {}, **value}
    devices = value.get("devices")
    if value["format"] == 1 and "actions" in value:
        raise BadInput("it has actions, but its format has none")
    if value["format"] == 1 and isinstance(devices, list):
        value["actions"] = [_of_first_format(one) for one in devices if isinstance(one, dict) and one.get("move")]
    return value


def _of_first_format(device: dict[str, Any]) -> dict[object, object]:
    """The action that format 1 stored inside a device. Its kind is the device's kind."""
    match device:
        case {"kind": kind, "address": address, "move": {"device": own, **fields}} if own == address:
            return {"kind": kind, "device": own, **fields}
    raise BadInput(f"the move of {device.get('address')} is broken, or belongs to another device")


def _expect_own(devices: tuple[HeldDevice, ...], actions: tuple[Action, ...]) -> None:
    """BadInput for two actions with one key, or an action on a device that the guest does not have.

    Nobody would hold the lock of such a device.
    """
    keys = [action.key for action in actions]
    if len(set(keys)) < len(keys):
        raise BadInput("it has two actions with the same key")
    known = {device.key for device in devices}
    for key in keys:
        if key.partition(" ")[0] in get_args(Kind) and key not in known:
            raise BadInput(f"it has an action on {unpasted(key)}, which is not a device of the guest")


def _names_a_file(name: str) -> bool:
    """Whether the name can be part of a file name. libvirt names its files after the guest."""
    try:
        return b"\0" not in name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _device(value: object) -> HeldDevice:
    match {**_LATER_FIELDS, **value} if isinstance(value, dict) else value:
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
            "pci_class": int(pci_class),
            "named": bool(named),
            "subsystem": str(subsystem),
            "serial": str(serial),
            "pooled": bool(pooled),
            "brought": [*brought],
            "pending": str(pending),
        } if (
            kind in get_args(Kind)
            and recorded in get_args(Recorded)
            and pending in get_args(Pending)
            and all(isinstance(key, str) for key in brought)
        ):
            who = None if plugging is None else Process(*plugging)
            told = None if extra is None else Extra(*extra)
            if kind == "pci":
                PciAddress.parse(address)
            found = HeldDevice(kind, address, recorded, audited, wedged, began, who, told, ids, pci_class)  # type: ignore[arg-type]
            found = found._replace(named=named, brought=tuple(brought), pooled=pooled)
            return found._replace(subsystem=subsystem, serial=serial, pending=pending)  # type: ignore[arg-type]
    raise BadInput("one of its devices is broken")
