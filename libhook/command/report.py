# SPDX-License-Identifier: LGPL-2.1-or-later
"""The output of ``libhook inspect``: a guest and its host devices, as JSON and as text. Pure.

terminal.py makes the text printable.
"""

from libhook.errors import printable
from libhook.facts.domain import Domain, HostDevice, LibvirtsDevice
from libhook.handlers import record

_HEAD = ("KIND", "SOURCE", "MANAGED", "ADDRESS")


def inspect_json(domain: Domain, style: record.Style = "libvirt") -> dict[str, object]:
    """Return the object of ``inspect --json``: name, uuid, virt, host_devices. json.dumps escapes it later.

    Each device has kind, source, managed, address and record. ``record`` is the text for ``reason=start``, or None if
    no record is written. Devices that only libvirt records come last. ``warnings`` exists only if there are some.
    """
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "virt": domain.virt,
        "host_devices": [
            {
                "kind": device.kind,
                "source": device.source,
                "managed": isinstance(device, HostDevice) and device.managed,
                "address": device.address,
                "record": _record(domain, device, style),
            }
            for device in _all(domain)
        ],
        **({"warnings": list(domain.back_door_warnings)} if domain.back_door_warnings else {}),
    }


def inspect_text(domain: Domain, style: record.Style = "libvirt") -> list[str]:
    """Return the same as lines for a terminal. Each device's record is on the line below it, so columns stay narrow."""
    lines = [f"{domain.uuid}  {domain.virt}  {domain.name}"]
    devices = _all(domain)
    warnings = [f"warning: {warning}" for warning in domain.back_door_warnings]
    if not devices:
        return [*lines, "no host devices", *warnings]
    rows = [_row(device) for device in devices]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    lines.append(_line(_HEAD, widths))
    for device, row in zip(devices, rows, strict=True):
        lines.append(_line(row, widths) + _remark(device))
        lines.append(f"    {_record(domain, device, style) or 'no record'}")
    return [*lines, *warnings]


def _all(domain: Domain) -> list[HostDevice | LibvirtsDevice]:
    return [*domain.devices, *domain.others]


def _record(domain: Domain, device: HostDevice | LibvirtsDevice, style: record.Style) -> str | None:
    """Return the text of the record at the guest's start. A missing USB device has none."""
    if isinstance(device, LibvirtsDevice):
        return record.libvirts(domain, device, "start")
    return None if device.missing or not device.audited else record.text(domain, device, "start", style, extra=True)


def _row(device: HostDevice | LibvirtsDevice) -> tuple[str, ...]:
    managed = isinstance(device, HostDevice) and device.managed
    return device.kind, device.source, "yes" if managed else "no", printable(device.address)


def _remark(device: HostDevice | LibvirtsDevice) -> str:
    """Return what else a reader must know."""
    if isinstance(device, LibvirtsDevice):
        return "" if device.kind == "net" else "  recorded by libvirt alone"
    if device.missing:
        return "  missing"
    if not device.resolved:
        return "  address known at start"
    return f"  driver {device.model}" if device.model else ""


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
