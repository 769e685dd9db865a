# SPDX-License-Identifier: LGPL-2.1-or-later
"""The output of ``plan`` and ``status``, as JSON and as text. Pure.

terminal.py makes the text printable.
"""

from collections.abc import Collection, Mapping, Sequence

from libhook.command.names import NameOf, fields, of_all
from libhook.errors import named
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, HeldDevice, what_is_set
from libhook.facts.plan import Condition, Fault, Plan, Record, Refusal, Stays, Verdict, Warn
from libhook.facts.remedy import give_up, told
from libhook.naming.name import Name

Json = dict[str, object]


def plan_json(plan: Plan, name_of: NameOf, *, running: bool) -> Json:
    """Return ``refused`` and ``actions``. Each action has its kind, its facts, and ``lines``, as the dry run prints.

    ``running``: the guest runs, and the plan is that of its next start. ``limits`` says how many seconds each part may
    take, and ``seconds`` how many all of it. ``names`` has the devices' names by address.
    """
    return {
        "refused": bool(plan.refusals),
        "running": running,
        "seconds": plan.seconds,
        "limits": [limit._asdict() for limit in plan.limits],
        "actions": [{**_shown(verdict), "lines": list(verdict.describe())} for verdict in plan.verdicts],
        "names": of_all(plan.describe(), name_of),
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


def status_json(
    entries: Sequence[tuple[Held, str | None]],
    left: Mapping[str, Collection[str]],
    silent: Collection[PciAddress],
    name_of: NameOf,
) -> Json:
    """Return ``guests``: each journal entry, with ``recoverable`` and the ``reason`` why it is not.

    ``abandoned`` has the keys of half plugged devices that no process works on. ``left`` maps a guest's UUID to them.
    ``silent`` are the devices that do not answer.
    """
    return {
        "guests": [
            {
                **_held_json(held, silent, name_of),
                "recoverable": alive is None,
                "reason": alive,
                "abandoned": sorted(left.get(held.uuid, ())),
            }
            for held, alive in entries
        ]
    }


def _held_json(held: Held, silent: Collection[PciAddress], name_of: NameOf) -> Json:
    """Return the entry as JSON. Each device has the action that was done on it as ``move``, and whether it ``hangs``.

    A device that was exchanged since has no name.
    """
    entry, acting = held.to_json(), held.actions_by_key()
    for device, shown in zip(held.devices, entry["devices"], strict=True):
        action = acting.get(device.key)
        shown["move"] = action.to_json() if action else None
        shown["hangs"] = device.wedged or device.pci in silent
        name = name_of(device.address)
        shown |= {**fields(name if name.ids == device.ids else Name(device.ids)), "ids": device.ids}
    return entry


def status_text(
    entries: Sequence[tuple[Held, str | None]], left: Mapping[str, Collection[str]], silent: Collection[PciAddress]
) -> list[str]:
    """Return lines: each guest and its devices, then what recover would do with them."""
    lines = []
    for held, alive in entries:
        lines.append(f"{named(held.name)}  {held.uuid}  {held.phase}")
        abandoned = left.get(held.uuid, ()) if alive else ()
        acting = held.actions_by_key()
        for device in held.devices:
            action = acting.get(device.key)
            way = action.summary if action else "left as it was"
            is_silent = device.pci in silent and not device.wedged
            remarks = (_state(device, device.key in abandoned), "does not answer" if is_silent else "")
            remark = ", ".join(filter(None, remarks))
            lines.append(f"  {device.kind} {named(device.address)}  {way}{remark and f'  [{remark}]'}")
        keys = {device.key for device in held.devices}
        lines += [f"  {told(action.key)}  {action.summary}" for action in held.actions if action.key not in keys]
        lines += [f"  {what_is_set(held.settled)}"] if held.settled else []
        does = "gives it back" if held.actions else "removes its entry"
        stuck = bool(held.actions) and held.phase == "releasing" and not alive
        when = " once its driver answers" if any(device.wedged for device in held.devices) else ""
        half = sorted(f"{device.kind} {named(device.address)}" for device in held.devices if device.key in abandoned)
        rest = f"ends the unfinished hot-plug of {', '.join(half)}; else " if half else ""
        lines.append(f"  recover: {rest}{f'leaves it, because {alive}' if alive else f'{does}{when}'}")
        lines += [f"  if that fails, {give_up(held)}"] if stuck else []
    return lines


def _state(device: HeldDevice, abandoned: bool) -> str:
    if device.wedged:
        return "hangs"
    if device.pending:
        return "its record may be missing"
    if abandoned:
        is_back = device.recorded not in ("failed", "unreturned")
        return "hot-plug unfinished, its process is gone" if is_back else "not given back"
    if device.plugging:
        return f"being plugged {'in' if device.recorded == 'nothing' else 'out'} by pid {device.plugging.pid}"
    return "" if device.audited else "taken along"
