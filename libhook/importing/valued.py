# SPDX-License-Identifier: LGPL-2.1-or-later
"""Values that scripts write: which become ``values``, and what becomes of the others. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from libhook.errors import BadInput
from libhook.facts.knob import unfit
from libhook.facts.value import path_of
from libhook.importing import errands
from libhook.importing.draft import DO, UNDO, Draft, moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.importing.about import About
    from libhook.importing.effect import Effect

_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def translate(effects: Sequence[Effect], about: About, draft: Draft) -> None:
    """Add each value that is written before the guest runs. What the end writes back, libhook does by itself."""
    computed, changed = set[str](), {one.target for one in effects if one.kind == "value" and one.operation in DO}
    unset = dict[str, str]()  # what `values` refuses, and why
    for one in effects:
        for name, value in _each_value(one, about):
            shown = name if about.named else name.replace(about.guest, "{name}")
            if one.operation in DO and about.blind and "$" in about.line(one.place).partition(">")[0]:
                computed.add(name)
            if "*" in name:
                draft.tell(one, "left", f"{name} finds nothing here: name each file of this host in `values`")
                continue
            if about.is_invented(name):
                draft.tell(one, "left", "which device it is, the script finds out")
                continue
            if name in computed:
                draft.tell(one, "left", f"{name}: the script computes what it writes, perhaps from the guest's XML")
                continue
            is_lost = not one.adds if one.operation in DO else name in changed and shown not in draft.values
            if one.adds:
                draft.find(
                    f"{about.where(one.place)}: the script adds {value} to the huge pages that are there, and `values`"
                    f' sets their number: where there are others, write the sum into "{name}"'
                )
            if one.operation in DO and value and (why := _refused(name, value)):
                unset[name] = why
            if one.varies and is_lost:
                draft.tell(one, "left", one.varies)
            elif one.operation in DO and name in unset:
                said = f"{name} is set by a command, as `values` refuses {value}: {unset[name]}"
                draft.find(f"{about.where(one.place)}: {said}")
                errands.value(one, name, value, about, draft)
            elif one.operation in UNDO and name in unset and value not in about.texts:
                draft.tell(one, "left", f"{name}: what was there before is known to the script alone")
            elif one.operation in DO and _fits(name, value):
                fit = about.shown(path_of(name), value)
                draft.values[shown] = int(fit) if _NUMBER.fullmatch(fit) else fit
                what = f"{name} =" if one.kind == "value" else "the governor"
                draft.tell(one, "kept", f"values: {what} {fit}{moved(one)}")
                if "nr_hugepages" in name and "$" in about.line(one.place).partition("#")[0] and not one.adds:
                    draft.find(f"{about.where(one.place)}: {name} becomes {fit}, whatever was there: it is not added to"
                               " what another guest has, so write what all need together")  # fmt: skip
            elif one.operation in UNDO and shown in draft.values:
                draft.tell(one, "undone", "libhook writes what was there before, and no constant")
            elif one.operation in UNDO and value and (one.varies or value not in about.texts):
                draft.tell(one, "needless", "it writes back what it had noted, and did not change")
            elif not value:
                draft.tell(one, "left", f"{name}: what was written could not be seen")
            else:
                errands.value(one, name, value, about, draft)


def _each_value(one: Effect, about: About) -> list[tuple[str, str]]:
    if one.kind == "governor":
        chosen = range(about.cpus) if one.target == "all" else errands.numbers(one.target)
        return [(f"/sys/devices/system/cpu/cpu{number}/cpufreq/scaling_governor", one.value) for number in chosen]
    return [(one.target, one.value)] if one.kind == "value" else []


def _fits(name: str, value: str) -> bool:
    try:
        path_of(name)
    except BadInput:
        return False
    return bool(value) and "\n" not in value


def _refused(name: str, value: str) -> str:
    """Why ``values`` refuses to set this, or ""."""
    try:
        return unfit(path_of(name), value)
    except BadInput:
        return ""
