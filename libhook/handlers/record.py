# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audit record of a host device, and its text. Pure: effects/audit.py sends it."""

from __future__ import annotations

from libhook.facts.config import Config
from libhook.facts.domain import NO_DRIVER, Domain, Extra, HostDevice, LibvirtsDevice
from libhook.facts.entry import Held, HeldDevice
from libhook.facts.event import Operation
from libhook.facts.plan import Record
from libhook.light import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Reason = Literal["start", "stop", "attach", "detach"]
Style = Literal["libvirt", "2011"]


def encode(field: str, value: str) -> str:
    """``field="value"``, or ``field=`` and upper-case hex where a reader could misread the quoted value.

    The rule is libaudit's audit_encode_nv_string (lib/audit_logging.c): hex when a byte is ``"``, below 0x21 or above
    0x7e. A lone surrogate stands for the byte it came from.
    """
    raw = value.encode("utf-8", "surrogateescape")
    if any(byte == 0x22 or byte < 0x21 or byte > 0x7E for byte in raw):
        return f"{field}={raw.hex().upper()}"
    return f'{field}="{value}"'


def text(
    guest: Domain | Held, device: HostDevice | HeldDevice, reason: Reason, style: Style = "libvirt", extra: bool = False
) -> str:
    """The record as libvirt 11 writes it (virDomainAuditHostdev), or with ``2011`` as the first patch wrote it.

    With ``extra`` the known extra fields follow.
    """
    if style == "2011":
        head, bus = "", "type"
    else:
        head, bus = f"virt={guest.virt} ", "bus"
    return (
        f"{head}resrc=dev reason={reason} {encode('vm', guest.name)} uuid={guest.uuid} "
        f"{bus}={device.kind} {encode('device', device.address)}{_more(device.extra) if extra and device.extra else ''}"
    )


def libvirts(guest: Domain, device: LibvirtsDevice, reason: Reason) -> str | None:
    """The record that libvirt writes for a device that libhook does not record. None where libvirt writes none either.

    From the second half of virDomainAuditHostdev, and from virDomainAuditRedirdev.
    """
    match device.kind:
        case "storage":
            resource, what = "hostdev", encode("disk", device.address)
        case "misc":
            resource, what = "hostdev", encode("chardev", device.address)
        case "redir":
            resource, what = "dev", f"bus=usb {encode('device', device.address)}"
        case "net":
            return None
    return f"virt={guest.virt} resrc={resource} reason={reason} {encode('vm', guest.name)} uuid={guest.uuid} {what}"


def _more(extra: Extra) -> str:
    """The extra fields. Their names are free in the audit dictionary: ``id`` is a user's, ``model`` is SELinux's."""
    fields = []
    if extra.driver:
        fields.append(f"driver={NO_DRIVER}" if extra.driver == NO_DRIVER else encode("driver", extra.driver))
    if extra.group:
        fields.append(f"iommu-group={extra.group}")
    if extra.ids:
        fields.append(encode("device-id", extra.ids))
    return "".join(f" {field}" for field in fields)


def failure(operation: Operation) -> Reason:
    """The reason in the audit record of a refusal at this operation."""
    return "attach" if "attach" in operation.records else "start"


def failed(guest: Domain | Held, keys: Iterable[str], config: Config, reason: Reason = "start") -> tuple[Record, ...]:
    """The records with result failed for the devices with these keys, when a start or a hot-plug is refused."""
    wanted = set(keys)
    devices = (device for device in guest.devices if device.audited)
    return tuple(of(guest, device, reason, False, config) for device in devices if device.key in wanted)


def of(guest: Domain | Held, device: HostDevice | HeldDevice, reason: Reason, success: bool, config: Config) -> Record:
    """The record that a device came or went, or failed to."""
    line = text(guest, device, reason, config.audit_record, config.audit_extra)
    return Record(device.key, line, success, reason)
