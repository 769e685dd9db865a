# SPDX-License-Identifier: LGPL-2.1-or-later
"""What ``libhook inspect`` shows: a guest and its host devices, for programs and for people. Pure."""

from libhook.errors import printable
from libhook.facts.domain import Domain, HostDevice, LibvirtsDevice
from libhook.handlers import record

_HEAD = ("KIND", "SOURCE", "MANAGED", "ADDRESS")


def inspect_json(domain: Domain, style: record.Style = "libvirt") -> dict[str, object]:
    """The object of ``inspect --json``: name, uuid, virt, host_devices; nothing is escaped, json.dumps does.

    Each device has kind, source, managed, address and record: the text for ``reason=start``, None where none
    is written. Those that only libvirt records come last. ``warnings`` is there where there are some.
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
        **({"warnings": list(domain.unseen)} if domain.unseen else {}),
    }


def inspect_text(domain: Domain, style: record.Style = "libvirt") -> list[str]:
    """The same as lines for a terminal: one a device, its record below it so that columns stay narrow."""
    lines = [f"{domain.uuid}  {domain.virt}  {printable(domain.name)}"]
    devices = _all(domain)
    warnings = [f"warning: {printable(warning)}" for warning in domain.unseen]
    if not devices:
        return [*lines, "no host devices", *warnings]
    rows = [_row(device) for device in devices]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    lines.append(_line(_HEAD, widths))
    for device, row in zip(devices, rows, strict=True):
        lines.append(_line(row, widths) + _remark(device))
        lines.append(f"    {printable(_record(domain, device, style) or 'no record')}")
    return [*lines, *warnings]


def _all(domain: Domain) -> list[HostDevice | LibvirtsDevice]:
    return [*domain.devices, *domain.others]


def _record(domain: Domain, device: HostDevice | LibvirtsDevice, style: record.Style) -> str | None:
    """The text of the record at the guest's start; a USB device that is not there has none."""
    if isinstance(device, LibvirtsDevice):
        return record.libvirts(domain, device, "start")
    return None if device.missing else record.text(domain, device, "start", style, extra=True)


def _row(device: HostDevice | LibvirtsDevice) -> tuple[str, ...]:
    managed = isinstance(device, HostDevice) and device.managed
    return device.kind, device.source, "yes" if managed else "no", printable(device.address)


def _remark(device: HostDevice | LibvirtsDevice) -> str:
    """What a reader must know besides."""
    if isinstance(device, LibvirtsDevice):
        return "" if device.kind == "net" else "  recorded by libvirt alone"
    if device.missing:
        return "  missing"
    if not device.resolved:
        return "  known at start"
    return f"  driver {printable(device.model)}" if device.model else ""


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
