# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text of an audit record for a host device. Pure; sending it is effects/audit.py's."""

from __future__ import annotations

from libhook.facts.domain import NO_DRIVER, Domain, Extra, HostDevice, LibvirtsDevice
from libhook.facts.entry import Held, HeldDevice
from libhook.light import Literal

Reason = Literal["start", "stop", "attach", "detach"]
Style = Literal["libvirt", "2011"]


def encode(field: str, value: str) -> str:
    """``field="value"``, or ``field=`` and upper-case hex where the value could be read as something else.

    The rule is libaudit's audit_encode_nv_string (lib/audit_logging.c): hex when a byte is ``"``, below 0x21 or
    above 0x7e. Lone surrogates stand for the bytes they came from.
    """
    raw = value.encode("utf-8", "surrogateescape")
    if any(byte == 0x22 or byte < 0x21 or byte > 0x7E for byte in raw):
        return f"{field}={raw.hex().upper()}"
    return f'{field}="{value}"'


def text(
    guest: Domain | Held, device: HostDevice | HeldDevice, reason: Reason, style: Style = "libvirt", extra: bool = False
) -> str:
    """The record libvirt 11 writes (virDomainAuditHostdev), or with ``2011`` that of the first patch.

    With ``extra`` there is more after it, where it is known.
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
    """The record that libvirt writes of a device that we write none of; None where it writes none either.

    virDomainAuditHostdev's second half, and virDomainAuditRedirdev.
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
    """Fields that the dictionary of audit fields has no other meaning for: ``id`` is a user's, ``model`` SELinux's."""
    fields = []
    if extra.driver:
        fields.append(f"driver={NO_DRIVER}" if extra.driver == NO_DRIVER else encode("driver", extra.driver))
    if extra.group:
        fields.append(f"iommu-group={extra.group}")
    if extra.ids:
        fields.append(encode("device-id", extra.ids))
    return "".join(f" {field}" for field in fields)
