# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the kernel shows a value that scripts write otherwise: ``values`` compares with what a file shows. Pure."""

import re
from collections.abc import Callable

_MASK = re.compile(r"/(?:\w*cpumask|\w*smp_affinity|[rx]ps_cpus)$")
_HEX = re.compile(r"(?:0x)?([0-9a-f]{1,999}(?:,[0-9a-f]{1,8}){0,127})", re.I)
_SWITCHES = {"1": "Y", "y": "Y", "Y": "Y", "0": "N", "n": "N", "N": "N"}


def as_shown(path: str, value: str, now: Callable[[str], str], cpus: int) -> str:
    """Return the value as this file would show it. ``now`` tells what a file of this host shows, "" for nothing.

    A mask of CPUs has a digit for each four that there may be, in groups of eight (lib/vsprintf.c, bitmap_string()).
    """
    if _MASK.search(path) and (found := _HEX.fullmatch(value)):
        shown = now(path).replace(",", "")
        digits = "".join(group.rjust(8, "0") for group in found[1].lower().split(","))
        digits = digits.lstrip("0").rjust(len(shown) or cpus // 32 * 8 + (cpus % 32 + 3) // 4, "0")
        begin = len(digits) % 8
        return ",".join(filter(None, (digits[:begin], *(digits[at : at + 8] for at in range(begin, len(digits), 8)))))
    if path.startswith("/sys/module/") and now(path) in ("Y", "N"):
        return _SWITCHES.get(value, value)
    if path.startswith("/proc/sys/") and re.search(r"\s", value) and "\t" in now(path):
        return "\t".join(value.split())
    return value
