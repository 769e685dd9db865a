# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns the effects of a guest's whole life into the fewest settings that say them. Pure.

What libhook undoes by itself needs nothing from the script's end: what was before comes back, and no constant.
"""

import re
from collections.abc import Sequence

from libhook.facts.mountpoint import is_mount_point, is_of_host
from libhook.facts.unit import is_anyones, is_protected
from libhook.importing import errands, order, valued
from libhook.importing.about import About
from libhook.importing.commandline import is_background
from libhook.importing.draft import DO, UNDO, Draft, moved
from libhook.importing.effect import Effect
from libhook.importing.imagined import DESKTOPS
from libhook.importing.programs import GPU_DRIVERS

_CONDITION = re.compile(r"^\s*(?:if|elif|while|until|for|case)\b|\$\(|`|<\(|\||(?<![>&])&(?!>)|&&")
_ALIAS = "display-manager.service"
_DEVICE = "device:display"


def translate(effects: Sequence[Effect], about: About) -> Draft:
    """Return the settings for these effects, which are in the order of the guest's life."""
    draft = Draft.empty()
    effects = _restarts(effects, about, draft)
    _units(effects, about, draft)
    _modules([one for one in effects if one.kind in ("out", "in")], about, draft)
    _devices([one for one in effects if one.kind == "bind"], about, draft)
    valued.translate(effects, about, draft)
    _mounts([one for one in effects if one.kind in ("mount", "umount")], draft)
    _others(effects, about, draft)
    errands.translate(effects, about, draft)
    order.sort(draft)
    return draft


def _same(one: str, other: str) -> bool:
    """Whether two names are of the display manager, or the same."""
    return one == other or (_is_desktop(one) and _is_desktop(other))


def _is_desktop(unit: str) -> bool:
    return unit == _ALIAS or unit.removesuffix(".service") in DESKTOPS


def _unit_name(effect: Effect, about: About) -> str:
    """The unit as the settings name it. A display manager that the script found out is whichever the host has."""
    name = effect.target
    bare = name.removesuffix(".service")
    named = [one for one in DESKTOPS if f"{one}" in about.texts]
    if _is_desktop(name) and name == about.desktop and (len(named) > 2 or bare not in about.line(effect.place)):
        return _ALIAS
    return name if about.named else name.replace(about.guest, "{name}")


def _restarts(effects: Sequence[Effect], about: About, draft: Draft) -> list[Effect]:
    """The effects, numbered; of a unit that goes down and up again at one operation only a restart, where it comes up.

    But not where something is done meanwhile for which it must be down.
    """
    moves, kept = dict[tuple[str, str], list[int]](), dict[int, Effect | None]()
    for number, one in enumerate(effects):
        if one.kind in ("down", "up"):
            moves.setdefault((_unit_name(one, about), one.operation), []).append(number)
    for (name, operation), some in moves.items():
        meanwhile = {one.kind for one in effects[some[0] : some[-1]]}
        if effects[some[0]].kind == "down" and effects[some[-1]].kind == "up" and not meanwhile & _NEEDS_DOWN:
            kept.update(dict.fromkeys(some))
            kept[some[-1]] = effects[some[-1]]._replace(kind="restart")
            for at in some[:-1]:
                draft.tell(effects[at], "kept", f"{name} comes up again at {operation}: one restart, there")
    rest = (kept.get(number, same) for number, same in enumerate(effects))
    return [one._replace(at=at) for at, one in enumerate(one for one in rest if one)]


_NEEDS_DOWN = frozenset(["out", "in", "bind", "umount", "mount"])


def _units(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    for one in effects:
        if one.kind not in ("down", "up", "restart"):
            continue
        name = _unit_name(one, about)
        have = next((unit for unit in draft.units if _same(unit, name)), "")
        if is_protected(name) or not is_anyones(name.replace("{name}", "x"), glob=True):
            why = (
                "libvirt or the host depends on it"
                if is_protected(name)
                else "it is no service, socket, timer, path or mount"
            )
            draft.tell(one, "danger", f"{name} is not touched: {why}")
        elif one.operation in DO:
            state = "up" if one.kind == "up" else "down"
            if have and (one.kind == "restart" or draft.units[have] != state):
                draft.tell(one, "left", f'{have} changes again while the guest runs: `units` keeps it'
                           f' {draft.units[have]}')  # fmt: skip
                draft.find(f"{about.where(one.place)}: {have} changes again while the guest runs, and `units` keeps it"
                           f" {draft.units[have]} until the end: if that is not what you want, take it out of `units`,"
                           " and write a `run` with what the scripts do")  # fmt: skip
            elif one.kind == "restart":
                errands.unit(one, name, about, draft)
            elif have:
                draft.tell(one, "kept", f'units: "{have}" = "{state}"{moved(one)}')
            else:
                draft.units[name] = state
                draft.tell(one, "kept", f'units: "{name}" = "{state}"{moved(one)}')
                if one.value == "isolate" and state == "down":
                    draft.find(f"{about.where(one.place)}: isolate also stops what else the target does not want;"
                               " only the display manager is stopped now: add to units what else must go")  # fmt: skip
        elif one.operation in UNDO and have:
            draft.tell(one, "undone", f"{have}: libhook undoes it, if it was so before")
        elif one.operation in UNDO:
            errands.unit(one, name, about, draft)
            if _is_desktop(name) and one.kind != "down":
                draft.find(
                    f"{about.where(one.place)}: the display manager was never stopped by this script, but is started"
                )
        else:
            draft.tell(one, "left", f"{name}: nothing is done with units at {one.operation}")


def _modules(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    out = dict[str, str]()
    for one in effects:
        if one.kind == "out" and one.operation in DO:
            name = _DEVICE if one.target in GPU_DRIVERS else one.target
            out[one.target] = name
            if name not in draft.modules:
                draft.modules.append(name)
            draft.tell(one, "kept", f'modules: "{name}"{moved(one)}')
    for one in effects:
        if one.kind == "in" and one.operation in UNDO and (one.target in out or one.target in GPU_DRIVERS | _HELPED):
            if one.target in out:
                draft.tell(one, "undone", f"{one.target}: libhook loads it again, if it was loaded")
            elif one.target in _HELPED:
                draft.tell(one, "undone", f"{one.target}: it need not go, so it need not come back")
            else:
                draft.tell(one, "left", f"{one.target}: nothing was seen to unload it, so libhook does not load it")
        elif one.kind == "in" and one.operation in DO and one.target in out:
            draft.tell(one, "left", f"{one.target} is loaded again while the guest runs: no setting says that")
        elif one.kind == "in":
            errands.module(one, effects, about, draft)
        elif one.operation in UNDO and not any(_loads(other, one.target) for other in effects):
            draft.tell(one, "left", f"{one.target} is unloaded at the end: nothing of libhook's needs that")


_HELPED = frozenset(
    [
        "drm",
        "drm_kms_helper",
        "drm_ttm_helper",
        "ttm",
        "i2c_nvidia_gpu",
        "snd_hda_intel",
        "snd_hda_codec_hdmi",
        "video",
        "wmi",
    ]
)


def _loads(other: Effect, target: str) -> bool:
    return other.kind == "in" and other.operation in DO and other.target == target


def _devices(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    for one in effects:
        if one.operation in DO and one.value not in ("", "vfio-pci", "back", "vfio_pci", "(null)"):
            draft.tell(one, "left", f"no setting puts a device on {one.value} while the guest runs")
            continue
        if about.is_invented(one.target):
            draft.find("the scripts find out which devices they hand over: each must be a <hostdev> in the XML, or in"
                       " take_along")  # fmt: skip
        elif one.operation in DO and one.target and one.target not in draft.bound and "." in one.target:
            draft.bound.append(one.target)
        draft.tell(one, "needless", "libhook binds what the guest's XML has, and gives it back")
    if not draft.bound:
        return
    if about.xml is None:
        draft.find("the scripts hand over " + ", ".join(sorted(draft.bound)) + ": each must be a <hostdev> in the XML;"
                   " what is not goes into take_along. Give the XML with --guest, and this is looked up")  # fmt: skip
        return
    lacking = sorted(address for address in draft.bound if address not in about.xml)
    if lacking and about.named:
        draft.along.extend(lacking)
    elif lacking:
        draft.find(
            f"{', '.join(lacking)} are not in the guest's XML: put each into take_along of that guest's own section"
        )


def _mounts(effects: Sequence[Effect], draft: Draft) -> None:
    for one in effects:
        if one.kind == "umount" and one.operation in DO:
            if not is_mount_point(one.target) or is_of_host(one.target):
                draft.tell(one, "left", f"{one.target} is no mount point that libhook may take away")
                continue
            if one.target not in draft.mounts:
                draft.mounts.append(one.target)
            draft.tell(one, "kept", f'mounts: "{one.target}"{moved(one)}')
        elif one.kind == "mount" and one.operation in UNDO and one.target in draft.mounts:
            draft.tell(one, "undone", f"{one.target}: libhook mounts it again, if it was")


def _others(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    started = {one.target: is_background(one, about) for one in effects
               if one.kind == "command" and one.operation in DO}  # fmt: skip
    for one in effects:
        named = started.keys() & {*one.done.argv[1:]} if one.kind == "danger" and one.operation in UNDO else set[str]()
        if any(started[name] for name in named):
            draft.tell(one, "undone", "what runs in the background ends with the guest")
            continue
        for name in sorted(named):
            draft.find(f"{about.where(one.place)}: {name} seems to stay behind when its command has ended, and libhook"
                       " ends what a command leaves: give it the option with which it stays in front, and its entry"
                       " background = true")  # fmt: skip
        if one.kind == "danger":
            draft.tell(one, "danger", one.value)
        elif one.kind == "awake":
            if one.operation in DO and one.value == "up":
                draft.sleep[:] = ["inhibit"]
            draft.tell(one, "kept" if one.value == "up" else "undone", f'sleep = "inhibit"{moved(one)}')
        elif one.kind == "sessions" and one.operation in DO:
            draft.tell(
                one,
                "kept" if about.named else "left",
                f'end = ["sessions"]: sessions that have the device open{moved(one)}',
            )
            if about.named:
                draft.end[:] = ["sessions"]
            else:
                draft.find(
                    'the scripts end sessions: write end = ["sessions"] into the section of the guest that needs it'
                )
        elif one.kind == "asks" and not _CONDITION.search(about.line(one.place)):
            draft.tell(one, "needless", f"{one.target} only asks")
        elif one.target == "sleep" and is_background(one, about) and "inhibit" not in about.line(one.place):
            draft.tell(one, "left", f"{one.value.partition(':')[0]} in the background: no setting delays a command")
        elif one.kind in ("needless", "left", "wrong", "sessions"):
            draft.tell(one, "left" if one.kind == "sessions" else one.kind, one.value)
