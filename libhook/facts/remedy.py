# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a refusal says to do, as commands that can be pasted. Pure.

Imported only where something is refused.
"""

from __future__ import annotations

from libhook.errors import named, pasted
from libhook.facts.host import DISPLAY_MANAGER, KUBERNETES
from libhook.facts.written import DOMAINS, quoted
from libhook.light import TYPE_CHECKING

if TYPE_CHECKING:
    from libhook.facts.domain import Domain
    from libhook.facts.entry import Held
    from libhook.facts.host import Owner, Use
    from libhook.facts.situation import Situation

_DROP_INS = "/etc/libhook/config.d"
_LENGTH_OF_UUID = 36
_MOST_GIVEN_UP = 3
_OUTLIVED = ("ssh", "sshd", "dropbear", "cron", "crond", "cronie", "atd")
"""Services that leave what they have begun (KillMode=process). Without pam_systemd that is in their control group."""
_LONGEST = 100
"""Bytes of a name in the name of a file, which may have 255 in all."""


def whom(guest: Domain | Held) -> str:
    """The guest in a command: its name, or its UUID where the name could be taken for anything else."""
    name = guest.name
    return name if is_plain(name) and len(name) <= _LONGEST and len(name) != _LENGTH_OF_UUID else guest.uuid


def called(key: str) -> str:
    """What a person calls the action or device with this key: ``0000:01:00.0`` for ``pci 0000:01:00.0``."""
    return key.partition(" ")[2] or key


def told(key: str) -> str:
    """A key for a sentence. The name in it is in quotes, unless it is a plain word."""
    kind, blank, name = key.partition(" ")
    return f"{kind} {named(name)}" if blank else kind


def give_up(held: Held) -> str:
    """The command that leaves what the entry still names as it is; of much, the first. status shows the rest then."""
    names = [called(action.key) for action in held.actions]
    plain = (
        action.key if names.count(name) > 1 or name.startswith("-") else name
        for action, name in zip(held.actions, names, strict=True)
    )
    given = " ".join(f"--give-up {pasted(name)}" for name in list(plain)[:_MOST_GIVEN_UP])
    which = "it as it is" if len(names) == 1 else "them as they are"
    return f"to leave {which}, run: libhook recover {given}"


def setting(situation: Situation, line: str, what: str) -> str:
    """The command that makes a setting for this guest alone: ``run: mkdir -p … && echo '…' >…``.

    The setting gets a file of its own, named after ``what`` it is about. So it meets no section of another file, and
    it may be pasted twice. No name has an @, so no two guests get one file. The section is as specific as those that
    there are for the guest, and the file's name comes after that of a file with the guest's name alone.

    ``line`` and ``what`` must be plain (``is_plain``), but for quotes of TOML in the line.
    """
    domain = situation.domain
    guest = domain.uuid if situation.config.by_uuid else whom(domain)
    toml = f"{DOMAINS}.{quoted(guest)}.{line}"
    return f"run: mkdir -p {_DROP_INS} && echo '{toml}' >{_DROP_INS}/{guest}@{what}.toml"


def is_plain(text: str) -> bool:
    """Whether neither a shell, nor TOML, nor a pattern, nor a file name means anything else by this text."""
    return text.isascii() and text[:1].isalnum() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()


def down(situation: Situation, unit: str) -> str:
    """The command that has this unit down while the guest runs. A name that is not plain is for the reader to write.

    So is one that would be too long for the name of a file.
    """
    if not is_plain(unit.replace("@", "")) or len(unit) > _LONGEST:
        return "name it in units; libhook config shows where"
    return setting(situation, f'units."{unit}" = "down"', unit)


def consent(situation: Situation, kind: str) -> str:
    """The command that consents to what preflight refuses of this kind of use. Never of a disk."""
    return setting(situation, f'preflight.{kind} = "warn"', kind)


def of_use(situation: Situation, use: Use) -> str:
    """What to do where the host uses a device."""
    if use.kind == "network":
        alone = f"if it can do without the network cards of this guest, {consent(situation, 'network')}"
        return f"reach the host another way first; {alone}"
    if use.pid:
        return _of_screen(situation, use) if use.kind == "display" else of_process(situation, use)
    if use.only_mounted:
        return _unmount(situation, use)
    # Whoever consents here loses what is on the disk, perhaps the host's own system: that is no command to paste.
    return "free it first, or give the guest another disk"


def of_process(situation: Situation, use: Use) -> str:
    """What ends the process, and nothing else. A setting is offered until it is there.

    A kill is not offered: by then the number may be another process's, or systemd starts the service again.
    """
    from libhook.facts.unit import is_protected

    owner, units = use.owner, situation.config.actions.get("units", {})
    ends = not (is_protected(owner.service) or owner.service.partition(".")[0].partition("@")[0] in _OUTLIVED)
    if owner.service and owner.service not in units and ends:
        which = named(owner.service)
        return f"stop {which} first, or to have that done for the guest, {down(situation, owner.service)}"
    if owner.scope and is_plain(owner.scope) and not is_protected(owner.scope):
        return f"stop {owner.scope} first: run: systemctl stop {owner.scope}"
    if owner.container:
        return _of_container(owner)
    if owner.session:
        session = f"session {owner.session} of the user {owner.user}"
        how = f"run: loginctl terminate-session {owner.session}"
        return (
            f"end {session} first, with all that runs in it: {how}"
            if is_plain(owner.session)
            else f"end {session} first"
        )
    if owner.unit:
        return f"stop {named(owner.unit)} of the user {owner.user} first: it is a unit of that user's own systemd"
    return f"stop what has it open first; to see what that belongs to, run: cat /proc/{use.pid}/cgroup"


_VERBS = {"docker": "stop", "podman": "stop", "crictl": "stop", "machinectl": "terminate"}


def _of_container(owner: Owner) -> str:
    """LXC, Incus and LXD have each their own command, and all name a group alike. A user may have made up the name."""
    if owner.user:
        return f"stop the container {named(owner.container)} of the user {owner.user} first"
    if owner.engine == KUBERNETES:  # the kubelet starts it again, and only an administrator of the cluster ends that
        again = "remove its pod from this node first, since Kubernetes starts the container again"
        return f"{again}; to see which pod it is, run: crictl ps --id {owner.container}"
    if owner.engine not in _VERBS or not is_plain(owner.container):
        return f"stop the container {named(owner.container)} first"
    return f"stop the container {owner.container} first: run: {owner.engine} {_VERBS[owner.engine]} {owner.container}"


def _of_screen(situation: Situation, use: Use) -> str:
    """The desktop is offered to who ends with it, until it is in the settings, by the name that any host has it by."""
    if use.desktop and not {use.desktop, DISPLAY_MANAGER} & situation.config.actions.get("units", {}).keys():
        desktop = f"the desktop stopped for the guest, with all that runs in it, {down(situation, DISPLAY_MANAGER)}"
        return f"stop what has it open first, or to have {desktop}"
    return of_process(situation, use)


def _unmount(situation: Situation, use: Use) -> str:
    """The setting names all that is mounted of the guest's devices, as the next start would refuse the rest."""
    from libhook.facts.mountpoint import is_likely_of_host, is_of_host

    if any(map(is_of_host, use.mounts)):
        return "the host itself needs what is mounted there: give the guest another disk"
    known = situation.config.actions.get("units", {})
    uses = (one for found in situation.host.uses.values() for one in found if one.only_mounted)
    new = list(dict.fromkeys(path for one in uses for path in one.mounts if path not in known))
    if not new:  # what keeps it from that is said beside this
        return "unmount it first"
    if any(is_of_host(path) or is_likely_of_host(path) or not _is_plain_path(path) for path in new):
        return "unmount it first, or name its mount points in the setting units of the guest"
    also = (name for name, state in known.items() if name.startswith("/") and state == "down")  # it replaces the file
    line = ", ".join(f'{quoted(path)} = "down"' for path in (*also, *new))
    name = setting(situation, f"units = {{ {line} }}", "mounts")
    return (
        f"unmount it first, or, where /etc/fstab has it, to have it unmounted and mounted again for the guest, {name}"
    )


def _is_plain_path(path: str) -> bool:
    """Whether neither TOML, nor a shell's quotes, nor any shell's echo mean anything else by this path."""
    return path.isascii() and path.isprintable() and not any(character in path for character in "'\"\\")


def by_hand(address: object) -> str:
    """The command that takes a device off its vfio driver, and lets the kernel choose another."""
    return (
        f"run: (cd /sys/bus/pci && echo >devices/{address}/driver_override && "
        f"echo {address} >devices/{address}/driver/unbind && echo {address} >drivers_probe)"
    )
