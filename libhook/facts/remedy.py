# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a refusal says to do, as commands that can be pasted. Pure.

Imported only where something is refused.
"""

from __future__ import annotations

from libhook.facts.written import DOMAINS, quoted
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from libhook.facts.domain import Domain
    from libhook.facts.host import Use
    from libhook.facts.situation import Situation

_DROP_INS = "/etc/libhook/config.d"
_DESKTOP = "display-manager.service"
"""systemd's name for whichever display manager the host has."""
_LENGTH_OF_UUID = 36


def setting(domain: Domain, line: str, what: str) -> str:
    """The command that makes a setting for this guest alone: ``run: mkdir -p … && echo '…' >…``.

    The setting gets a file of its own, named after ``what`` it is about. So it meets no section of another file, and
    it may be pasted twice. A section with the guest's UUID that says otherwise still wins.

    ``line`` and ``what`` must be plain (``is_plain``), but for quotes of TOML in the line.
    """
    whom = domain.name if is_plain(domain.name) and len(domain.name) != _LENGTH_OF_UUID else domain.uuid
    toml = f"{DOMAINS}.{quoted(whom)}.{line}"
    return f"run: mkdir -p {_DROP_INS} && echo '{toml}' >{_DROP_INS}/{whom}-{what}.toml"


def is_plain(text: str) -> bool:
    """Whether neither a shell, nor TOML, nor a pattern, nor a file name means anything else by this text."""
    return text.isascii() and text[:1].isalnum() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()


def down(domain: Domain, unit: str) -> str:
    """The command that has this unit down while the guest runs. A name that is not plain is for the reader to write."""
    if not is_plain(unit.replace("@", "")):
        return "name it in units; libhook config shows where"
    return setting(domain, f'units."{unit}" = "down"', unit)


def consent(domain: Domain, kind: str) -> str:
    """The command that consents to what preflight refuses of this kind of use. Never of a disk."""
    return setting(domain, f'preflight.{kind} = "warn"', kind)


def of_use(situation: Situation, use: Use) -> str:
    """What to do where the host uses a device."""
    domain, settings = situation.domain, situation.config.actions
    if use.kind == "open":
        return f"to stop that process, run: kill {use.pid}"
    if use.kind == "network":
        return f"reach the host another way first; if it can do without this one, {consent(domain, 'network')}"
    if use.kind == "display":
        if _DESKTOP not in settings.get("units", {}):
            return f"stop that process first, or to have the desktop stopped for the guest, {down(domain, _DESKTOP)}"
        if "sessions" not in settings.get("end", ()):
            sessions = setting(domain, 'end = ["sessions"]', "end")
            return f"stop that process first, or to have the sessions ended that use it, {sessions}"
        return f"to stop that process, run: kill {use.pid}"
    if use.only_mounted:
        return _unmount(situation, use)
    # Whoever consents here loses what is on the disk, perhaps the host's own system: that is no command to paste.
    return "free it first, or give the guest another disk"


def _unmount(situation: Situation, use: Use) -> str:
    """``mounts`` names all that is mounted of the guest's devices, as the next start would refuse the rest."""
    from libhook.facts.mountpoint import is_of_host

    if any(map(is_of_host, use.mounts)):
        return "the host itself needs what is mounted there: give the guest another disk"
    every: Sequence[str] = list(
        dict.fromkeys(
            path for uses in situation.host.uses.values() for one in uses if one.only_mounted for path in one.mounts
        )
    )
    if not all(is_plain(path.replace("/", "")) for path in every):
        return "unmount it first, or name its mount points in the setting mounts of the guest"
    listed = ", ".join(map(quoted, every))
    name = setting(situation.domain, f"mounts = [{listed}]", "mounts")
    return f"unmount it first, or to have that done for the guest, and it mounted again afterwards, {name}"


def by_hand(address: object) -> str:
    """The command that takes a device off its vfio driver, and lets the kernel choose another."""
    return (
        f"run: (cd /sys/bus/pci && echo >devices/{address}/driver_override && "
        f"echo {address} >devices/{address}/driver/unbind && echo {address} >drivers_probe)"
    )
