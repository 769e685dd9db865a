# SPDX-License-Identifier: LGPL-2.1-or-later
"""The output of ``plan``, ``devices`` and ``status``, as JSON and as text. Pure.

terminal.py makes the text printable.
"""

from collections.abc import Collection, Mapping, Sequence

from libhook.facts.entry import Held, HeldDevice, what_is_set
from libhook.facts.host import NO_CLASS, Host, PciDevice
from libhook.facts.plan import Condition, Fault, Plan, Record, Refusal, Stays, Verdict, Warn

Json = dict[str, object]


def plan_json(plan: Plan) -> Json:
    """Return ``refused`` and ``actions``. Each action has its kind, its facts, and ``lines``, as the dry run prints.

    ``limits`` says how many seconds each part may take, and ``seconds`` how many all of it.
    """
    return {
        "refused": bool(plan.refusals),
        "seconds": plan.seconds,
        "limits": [limit._asdict() for limit in plan.limits],
        "actions": [{**_shown(verdict), "lines": list(verdict.describe())} for verdict in plan.verdicts],
    }


def _shown(verdict: Verdict) -> Json:
    match verdict:
        case Record(device, text, success):
            result = "success" if success else "failed"
            return {"action": "record", "device": device, "text": text, "result": result}
        case Refusal(device, reason, remedy):
            return {"action": "refuse", "device": device, "reason": reason, "remedy": remedy}
        case Condition(state, refusal, after):
            return {**_shown(refusal), "action": "refuse unless", "state": state, "after": after}
        case Warn(message) | Stays(message=message):
            return {"action": "warn", "message": message}
        case Fault(handler, what):
            return {"action": "fault", "handler": handler, "what": what}
    return verdict.show()


def devices_json(host: Host) -> Json:
    """Return ``groups``. Each has ``group``, its number (null: in no group), and ``devices`` with the facts below."""
    return {
        "groups": [
            {
                "group": number,
                "devices": [
                    {
                        "address": str(device.address),
                        "class": None if device.pci_class == NO_CLASS else f"{device.pci_class:04x}",
                        "driver": device.binding.driver,
                        "override": device.binding.override or None,
                        "guest": claim._asdict() if (claim := host.claims.get(device.address)) else None,
                        "in_use": host.in_use.get(device.address),
                        "uses": _uses(host, device),
                        "hangs": device.address in host.in_flight,
                        "pf": str(device.pf) if device.pf else None,
                        "vfs": [str(vf) for vf in device.vfs],
                    }
                    for device in members
                ],
            }
            for number, members in _grouped(host)
        ]
    }


def devices_text(host: Host) -> list[str]:
    """Return a tree as lines: each group, its devices, and below a PF its VFs.

    A VF that shares another IOMMU group stands in that group instead.
    """
    lines = []
    for number, members in _grouped(host):
        on_top = [device for device in members if not _below_pf(host, device)]
        if on_top:
            lines.append("no IOMMU group" if number is None else f"IOMMU group {number}")
        for device in on_top:
            lines.append(f"  {_line(host, device)}")
            vfs = (host.devices[vf] for vf in device.vfs if vf in host.devices)
            lines += [f"    VF {_line(host, vf)}" for vf in vfs if _below_pf(host, vf)]
    return lines


def _below_pf(host: Host, device: PciDevice) -> bool:
    """Whether a VF is shown below its PF: it is in the PF's group, or alone in its own."""
    pf = host.devices.get(device.pf) if device.pf else None
    if pf is None or device.group is None:
        return pf is not None
    return device.group == pf.group or len(host.groups.get(device.group, ())) == 1


def _line(host: Host, device: PciDevice) -> str:
    name = _CLASSES.get(device.pci_class, f"{device.pci_class:04x}")
    return f"{device.address}  {name:<9} {device.binding.driver or '-'}{_remarks(host, device)}"


_CLASSES = {
    NO_CLASS: "?",
    0x0100: "SCSI",
    0x0101: "IDE",
    0x0104: "RAID",
    0x0106: "SATA",
    0x0107: "SAS",
    0x0108: "NVMe",
    0x0180: "storage",
    0x0200: "Ethernet",
    0x0280: "network",
    0x0300: "VGA",
    0x0302: "3D",
    0x0380: "display",
    0x0401: "audio",
    0x0403: "audio",
    0x0600: "host",
    0x0601: "ISA",
    0x0604: "bridge",
    0x0C03: "USB",
    0x0C05: "SMBus",
    0x1200: "accel",
}


def _grouped(host: Host) -> list[tuple[int | None, list[PciDevice]]]:
    groups: dict[int | None, list[PciDevice]] = {}
    for address in sorted(host.devices):
        device = host.devices[address]
        groups.setdefault(device.group, []).append(device)
    return sorted(groups.items(), key=lambda entry: (entry[0] is None, entry[0] or 0))


def _remarks(host: Host, device: PciDevice) -> str:
    remarks = []
    if device.pf and not _below_pf(host, device):
        remarks.append(f"VF of {device.pf}")
    elif device.pf and device.group != host.devices[device.pf].group:
        remarks.append(f"IOMMU group {device.group}")
    if device.binding.override:
        remarks.append(f"override {device.binding.override}")
    if claim := host.claims.get(device.address):
        remarks.append(f"guest {claim.name}")
    if using := host.in_use.get(device.address):
        remarks.append(f"open in {using}")
    remarks += _uses(host, device)
    if device.address in host.in_flight:
        remarks.append("hangs in a kernel write")
    return f"  [{', '.join(remarks)}]" if remarks else ""


def _uses(host: Host, device: PciDevice) -> list[str]:
    """Return what a guest or the host would lose with the device."""
    tenants = host.tenants.get(device.address, ())
    own = [use.what for use in host.uses.get(device.address, ())]
    return [*(f"{tenant.what} behind it is held by the guest {tenant.claim.name}" for tenant in tenants), *own]


def status_json(entries: Sequence[tuple[Held, str | None]], left: Mapping[str, Collection[str]]) -> Json:
    """Return ``guests``: each journal entry, with ``recoverable`` and the ``reason`` why it is not.

    ``abandoned`` has the keys of half plugged devices that no process works on. ``left`` maps a guest's UUID to them.
    """
    return {
        "guests": [
            {
                **_held_json(held),
                "recoverable": alive is None,
                "reason": alive,
                "abandoned": sorted(left.get(held.uuid, ())),
            }
            for held, alive in entries
        ]
    }


def _held_json(held: Held) -> Json:
    """Return the entry as JSON. Each device has the action that was done on it as ``move``."""
    fields = held.to_json()
    for device, shown in zip(held.devices, fields["devices"], strict=True):
        action = held.action(device.key)
        shown["move"] = action.to_json() if action else None
    return fields


def status_text(entries: Sequence[tuple[Held, str | None]], left: Mapping[str, Collection[str]]) -> list[str]:
    """Return lines: each guest and its devices, then what recover would do with them."""
    lines = []
    for held, alive in entries:
        lines.append(f"{held.name}  {held.uuid}  {held.phase}")
        abandoned = left.get(held.uuid, ()) if alive else ()
        for device in held.devices:
            action = held.action(device.key)
            way = action.summary if action else "left as it was"
            remark = _state(device, device.key in abandoned)
            lines.append(f"  {device.kind} {device.address}  {way}{remark and f'  [{remark}]'}")
        keys = {device.key for device in held.devices}
        lines += [f"  {action.key}  {action.summary}" for action in held.actions if action.key not in keys]
        lines += [f"  {what_is_set(held.settled)}"] if held.settled else []
        does = "gives it back" if held.actions else "removes its entry"
        when = " once its driver answers" if any(device.wedged for device in held.devices) else ""
        rest = f"ends the unfinished hot-plug of {', '.join(sorted(abandoned))}; else " if abandoned else ""
        lines.append(f"  recover: {rest}{f'leaves it, because {alive}' if alive else f'{does}{when}'}")
    return lines


def _state(device: HeldDevice, abandoned: bool) -> str:
    if device.wedged:
        return "hangs"
    if abandoned:
        is_back = device.recorded not in ("failed", "unreturned")
        return "hot-plug unfinished, its process is gone" if is_back else "not given back"
    if device.plugging:
        return f"being plugged {'in' if device.recorded == 'nothing' else 'out'} by pid {device.plugging.pid}"
    return "" if device.audited else "taken along"
