# SPDX-License-Identifier: LGPL-2.1-or-later
"""The output of ``libhook inspect``: a guest and its host devices, as JSON and as text. Pure.

terminal.py makes the text printable.
"""

from collections.abc import Callable, Sequence

from libhook.command.names import fields
from libhook.errors import named, printable
from libhook.facts.domain import Domain, HostDevice, LibvirtsDevice
from libhook.handlers import record
from libhook.naming.name import UNKNOWN, Name
from libhook.xml.domxml import OnNetwork

_HEAD = ("KIND", "SOURCE", "MANAGED", "ADDRESS")
Json = dict[str, object]
NamesOf = Callable[[HostDevice | LibvirtsDevice], Name]
"""Tells the name of a guest's device."""


def inspect_json(
    domain: Domain,
    style: record.Style = "libvirt",
    name_of: NamesOf = lambda _: UNKNOWN,
    pools: Sequence[OnNetwork] = (),
) -> Json:
    """Return the object of ``inspect --json``: name, uuid, virt, host_devices. json.dumps escapes it later.

    Each device has kind, source, managed, address, name and record. ``record`` is the text for ``reason=start``, or
    None if no record is written. Devices that only libvirt records come last. ``pools`` has the interfaces whose VF
    libvirt chooses out of a network's when the guest starts. It and ``warnings`` exist only if there are some.
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
                **fields(name_of(device)),
                "record": _record(domain, device, style),
            }
            for device in _all(domain)
        ],
        **({"pools": [{**pool._asdict(), "address": pool.address or None} for pool in pools]} if pools else {}),
        **({"warnings": list(domain.back_door_warnings)} if domain.back_door_warnings else {}),
    }


def inspect_text(
    domain: Domain,
    style: record.Style = "libvirt",
    name_of: NamesOf = lambda _: UNKNOWN,
    pools: Sequence[OnNetwork] = (),
) -> list[str]:
    """Return the same as lines for a terminal. Each device's record is on the line below it, so columns stay narrow."""
    lines = [f"{domain.uuid}  {domain.virt}  {named(domain.name)}"]
    devices = _all(domain)
    warnings = [f"warning: {warning}" for warning in domain.back_door_warnings]
    if not devices and not pools:
        return [*lines, "no host devices", *warnings]
    rows = [_row(device) for device in devices]
    late = [("pci", "pool", "?", f"{pool.address or '?'}  of the network {printable(pool.network)}") for pool in pools]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, *late, strict=True)]
    lines.append(_line(_HEAD, widths))
    for device, row in zip(devices, rows, strict=True):
        name = name_of(device).text
        lines.append(_line(row, widths) + (name and f"  {name}") + _remark(device))
        lines.append(f"    {_record(domain, device, style) or 'no record'}")
    for pool, row in zip(pools, late, strict=True):
        lines.append(_line(row, widths) + ("" if pool.address else "  address known at start"))
        lines.append("    its record names that address")
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
