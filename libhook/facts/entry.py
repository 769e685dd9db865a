# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook holds for one guest: the journal entry, the claim and the memory between events. Types and JSON.

Where it is kept, and how it survives a crash, is effects/state.py's.
"""

from typing import Any, Literal, NamedTuple, get_args

from libhook.errors import BadInput, TooNew
from libhook.facts.address import PciAddress
from libhook.facts.domain import Extra, Kind
from libhook.facts.plan import Move

FORMAT = 1
"""Of what is written. A later one says what a reader of this one must know and does not; what such a reader may pass
over is a new field, with a default where it is read. What has no number is of the first.
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
    move: Move | None = None
    """How it came to vfio: to be undone at the end. None: it is not PCI, or was on vfio before."""
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

    @property
    def moves(self) -> tuple[Move, ...]:
        """What was taken, or was about to be."""
        return tuple(device.move for device in self.devices if device.move)

    @property
    def keeps(self) -> bool:
        """Whether what it holds is the guest's, or is about to be: it was not refused, and has not ended."""
        return self.phase not in ("refused", "releasing")

    def holds(self, address: PciAddress) -> bool:
        """Whether nobody else may have this device: while the guest lives, and until it is given back."""
        return any(device.pci == address and (device.move or self.keeps) for device in self.devices)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        fields = {"format": FORMAT, **self._asdict()}
        fields["libvirtd"] = list(self.libvirtd)
        fields["devices"] = [
            {
                **device._asdict(),
                "move": device.move.to_json() if device.move else None,
                "plugging": list(device.plugging) if device.plugging else None,
                "extra": list(device.extra) if device.extra else None,
            }
            for device in self.devices
        ]
        return fields

    @classmethod
    def from_json(cls, value: object) -> "Held":
        """Field by field; BadInput when anything is not as we write it, TooNew where a later version wrote it."""
        match {"format": 1, "detached": [], **value} if isinstance(value, dict) else value:  # earlier ones had none
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
            } if phase in get_args(Phase) and _names_a_file(name) and all(isinstance(key, str) for key in detached):
                process = Process(pid, start)
                return cls(uuid, name, virt, phase, boot, process, tuple(map(_device, devices)), lost, tuple(detached))  # type: ignore[arg-type]
        raise BadInput("not a record of a guest")


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
            "move": move,
            "recorded": str(recorded),
            "audited": bool(audited),
            "wedged": bool(wedged),
            "began": "start" | "attach" as began,
            "plugging": None | [int(), int()] as plugging,
            "extra": None | [str(), str(), str()] as extra,
            "ids": str(ids),
        } if kind in get_args(Kind) and recorded in get_args(Recorded):
            way = None if move is None else Move.from_json(move)
            who = None if plugging is None else Process(*plugging)
            told = None if extra is None else Extra(*extra)
            device = HeldDevice(kind, address, way, recorded, audited, wedged, began, who, told, ids)  # type: ignore[arg-type]
            if way and (kind != "pci" or str(way.device) != address):
                raise BadInput(f"the move of {way.device} stands at {address}")
            return device
    raise BadInput("not a held device")
