# SPDX-License-Identifier: LGPL-2.1-or-later
"""Finds what the host itself uses a device for: the disks it stands on, and the network it is reached by.

A disk is in use when it cannot be opened exclusively. EBUSY is the kernel's answer for file systems, swap, LVM, MD and
ZFS alike, in any mount namespace. A claimed partition claims its disk (block/bdev.c, bd_prepare_to_claim). A disk that
may not be opened at all (EPERM from a device cgroup, EACCES from SELinux or AppArmor) counts as in use. Users that
claim nothing are searched for separately (look/exports.py). Opening a disk exclusively keeps others from it for that
moment, so it is done only with ``must_see``.

The users are named only as far as /proc and /sys show them here. An interface in another network namespace does not
show below its device, and is not seen. Of an IPv4 default route with several next hops only the first is seen, since
/proc/net/route shows no other (net/ipv4/fib_trie.c, fib_route_seq_show).
"""

from __future__ import annotations

import errno
import os

from libhook import plainjson
from libhook.children import telling
from libhook.children.child import Deadline
from libhook.children.tracks import Late, Step, run
from libhook.errors import EXHAUSTED, DeadlineExpired, kernel_log, named, unanswered
from libhook.facts.address import PciAddress
from libhook.facts.host import DISPLAY_MANAGER, Owner, PciDevice, Use, UseKind
from libhook.facts.machine import Machine
from libhook.light import TYPE_CHECKING, partial, suppress
from libhook.look import attributes, exports, holders, nodes
from libhook.look.holders import Holder
from libhook.look.nodes import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from libhook.children.tracks import Track

_DEFAULT_V4 = "00000000"
_DEFAULT_V6 = "0" * 32
_MOUNTED = "mounted on "
_OCTAL = frozenset("01234567")
_AT_ONCE = 32
"""Devices, or disks. Each takes a process and two descriptors, and a host may have hundreds of VFs."""
_PATIENCE = 2.0
"""Seconds for a look whose result is only shown."""
_FOR_OTHERS = ("systemd", "systemd-logind", "seatd")
"""They have a device open for a session (logind-session-device.c). Whoever uses it is named before them."""
_MOST_LINKS = 8
_NOBODYS = (0, errno.ENOMEDIUM, errno.ENXIO, errno.ENODEV)
"""Answers to an exclusive open when nobody uses the disk. Those above 0: no card in the reader, or no disk left."""


def of_devices(
    machine: Machine, devices: Iterable[PciDevice], deadline: Deadline, *, must_see: bool = True
) -> dict[PciAddress, tuple[Use, ...]]:
    """Everything that would be torn away with each device. Devices are looked at side by side, and /proc only once.

    ``must_see`` is for a hand-over: disks are opened, a process that does not show what it has open is a LibhookError,
    and a device that does not answer is a DeadlineExpired. Without ``must_see`` the answer has only what shows. Nothing
    is opened that somebody else may want at that moment, and a device that does not answer is left out.
    """
    devices = tuple(devices)
    below: dict[PciDevice, tuple[Node, ...]] = {}
    for at in range(0, len(devices), _AT_ONCE):
        below |= _nodes_of(machine, devices[at : at + _AT_ONCE], deadline, must_see=must_see)
    paths = {device: holders.in_the_way(machine, device.address, found).paths for device, found in below.items()}
    wanted = {number: path for nodes in paths.values() for number, path in nodes.items()}
    open_now = holders.of_nodes(machine, wanted, deadline, must_see=must_see)
    found_all = [node for found in below.values() for node in found]
    exported = exports.of_nodes(machine, found_all, deadline, must_see=must_see)
    every_disk = [node for node in found_all if _is_disk(node)]
    disks = every_disk if must_see else []
    answers: dict[Node, int] = {}
    for at in range(0, len(disks), _AT_ONCE):
        some = disks[at : at + _AT_ONCE]
        answers |= zip(some, run((_probe(machine, disk.path) for disk in some), deadline), strict=True)
    owners = _owners(machine, open_now, deadline)
    users = _users(machine, [disk for disk in every_disk if answers.get(disk) not in _NOBODYS], deadline)
    uses = {}
    for device, found in below.items():
        opened = [holder for holder in open_now if holder.node in paths[device].values()]
        uses[device.address] = tuple(_uses_of(machine, device, found, answers, users, exported, opened, owners))
    return uses


def _nodes_of(
    machine: Machine, devices: Sequence[PciDevice], deadline: Deadline, *, must_see: bool
) -> dict[PciDevice, tuple[Node, ...]]:
    below = {}
    until = deadline if must_see else Deadline.after(deadline.left / 2)  # the rest is for what else is looked at
    for device, found in zip(devices, run((_nodes(machine, device) for device in devices), until), strict=True):
        if isinstance(found, int):
            reason = f"its nodes cannot be listed: {os.strerror(found)}"
            raise unanswered(OSError(found, reason, str(device.address)))
        if found is not None:
            below[device] = found
        elif must_see:
            reason = f"{device.address} hangs: its nodes cannot be listed"
            raise DeadlineExpired(reason, kernel_log(device.address))
    return below


def _uses_of(
    machine: Machine,
    device: PciDevice,
    found: Iterable[Node],
    answers: Mapping[Node, int],
    users: Mapping[str, Sequence[str]],
    exported: Mapping[str, Iterable[str]],
    opened: Iterable[Holder],
    owners: Mapping[int, tuple[Owner, str]],
) -> Iterator[Use]:
    """The uses of one device: of its disks, of its interfaces, and the processes that have ``opened`` a node.

    ``answers`` has the errno of opening each disk. A disk without an answer is judged by what shows: by its ``users``.
    """
    of_disks: UseKind = "usb" if device.is_usb_controller else "storage"
    for node in found:
        yield from (Use(of_disks, f"{node.path} is {what}") for what in exported.get(node.name, ()))
        if (code := answers.get(node, 0)) in EXHAUSTED:
            raise unanswered(OSError(code, os.strerror(code), node.path))
        if code not in _NOBODYS:
            shown = users.get(node.folder, ())
            what = f"is {_listed(shown)}" if shown else _unseen(code)
            mounts = tuple(one.removeprefix(_MOUNTED) for one in shown if one.startswith(_MOUNTED))
            yield Use(of_disks, f"{node.path} {what}", mounts=mounts, only_mounted=0 < len(mounts) == len(shown))
        elif node not in answers and _is_disk(node):
            if shown := users.get(node.folder, ()):
                yield Use(of_disks, f"{node.path} is {_listed(shown)}")
        elif node.kind == "net":
            yield from (Use("network", f"{named(node.name)} {what}") for what in _network(machine, node.name))
    for holder in sorted(
        opened, key=lambda one: one.name in _FOR_OTHERS
    ):  # a mediated device's node is no screen: its parent's driver waits until that node is closed
        is_screen = device.is_display and not holder.node.startswith(nodes.VFIO)
        use = Use("display" if is_screen else "open", f"it is open in {holder}", holder.pid)
        owner, desktop = owners.get(holder.pid, (Owner(), ""))
        yield use._replace(owner=owner, desktop=desktop)


def _listed(shown: Iterable[str]) -> str:
    """A mount point is a name that somebody chose. Until here it is the path that a command may get."""
    points = (one.removeprefix(_MOUNTED) if one.startswith(_MOUNTED) else "" for one in shown)
    return ", ".join(f"{_MOUNTED}{named(point)}" if point else one for one, point in zip(shown, points, strict=True))


def _owners(machine: Machine, those: Iterable[Holder], deadline: Deadline) -> Mapping[int, tuple[Owner, str]]:
    pids = {holder.pid for holder in those}
    if not pids:
        return {}
    from libhook.look import cgroups  # only where a device is in use

    patience = min(deadline, Deadline.after(_PATIENCE))  # it is only shown
    (found,) = run([cgroups.owners(machine, pids, _desktop(machine))], patience)
    return found


def _desktop(machine: Machine) -> str:
    """The unit that starts the desktop, by its own name; "" where the host has none.

    systemd calls it as the end of its links is called: Debian's alias leads to gdm3.service, and that to gdm.service.
    """
    path = f"/etc/systemd/system/{DISPLAY_MANAGER}"
    if not os.path.lexists(machine.root + path):
        return ""
    with suppress(OSError):  # it is no link: the end
        for _ in range(_MOST_LINKS):
            path = os.path.join(os.path.dirname(path), os.readlink(machine.root + path))
    return os.path.basename(path)


def _is_disk(node: Node) -> bool:
    return node.kind == "block" and not os.path.exists(f"{node.folder}/partition")


def _nodes(machine: Machine, device: PciDevice) -> Track[tuple[Node, ...] | int | None]:
    try:
        return (yield from nodes.below(machine, device.address))
    except Late:
        return None


def _probe(machine: Machine, path: str) -> Track[int]:
    """Open the disk exclusively; return 0 or an errno, EBUSY when somebody has claimed it."""
    try:
        return (yield Step(partial(machine.kernel.open_exclusively, path)))
    except Late:
        return errno.ETIMEDOUT


def _unseen(code: int) -> str:
    """What is said of a disk in use where no user shows."""
    if code == errno.EBUSY:
        return "is claimed by something that does not show here (ZFS, another namespace)"
    return f"cannot be opened to see whether it is in use ({os.strerror(code)})"


def _users(machine: Machine, disks: Sequence[Node], deadline: Deadline) -> dict[str, list[str]]:
    """What shows of who uses each of these disks, by its folder. What does not show in time is left out.

    A child looks: the name of a mapped disk takes a lock of the device mapper (look/attributes.py).
    """

    def tell(say: Callable[[bytes], None]) -> None:
        used = _mounted_and_swapped(machine)
        for disk in disks:
            say(plainjson.dumps([disk.folder, *_shown(machine, used, disk)]).encode())

    lines = telling.lines(tell, min(deadline, Deadline.after(_PATIENCE))) if disks else []
    return {folder: shown for folder, *shown in map(plainjson.loads, lines)}


def _shown(machine: Machine, used: Mapping[str, Sequence[str]], disk: Node) -> list[str]:
    """The disk's mount points, its use as swap, and what is stacked on it or on its partitions."""
    names = [
        disk.name,
        *(name for name in attributes.entries(disk.folder) if os.path.exists(f"{disk.folder}/{name}/partition")),
    ]
    users, seen = dict[str, None](), set[str]()
    for name in names:
        users |= dict.fromkeys(_users_of(machine, used, name, seen))
    return list(users)


def _mounted_and_swapped(machine: Machine) -> dict[str, list[str]]:
    """What is mounted from each block device, by its number or node, and what is swapped to."""
    found: dict[str, list[str]] = {}
    for line in attributes.whole(f"{machine.proc}/self/mountinfo").split("\n"):
        # 36 35 98:0 /root /mount/point options - type source superoptions; man 5 proc_pid_mountinfo
        fields = line.split(" ")
        source = fields[fields.index("-") + 2] if "-" in fields[:-2] else ""
        for name in {fields[2], source} if len(fields) > 4 else ():
            found.setdefault(name, []).append(f"{_MOUNTED}{_decoded(fields[4])}")
    for line in attributes.whole(f"{machine.proc}/swaps").splitlines()[1:]:
        found.setdefault(line.split(" ")[0].split("\t")[0], []).append("used as swap")
    return found


def _users_of(machine: Machine, used: Mapping[str, Sequence[str]], name: str, seen: set[str]) -> Iterator[str]:
    """The users of a block device, and of what is stacked on it. Each of these is asked once."""
    folder = f"{machine.sys}/class/block/{name}"
    seen.add(name)
    if number := attributes.plain(folder, "any/dev"):
        yield from used.get(number, ())
    yield from used.get(f"/dev/{name}", ())
    for upper in attributes.entries(f"{folder}/holders"):
        shown = attributes.whole(f"{machine.sys}/class/block/{upper}/dm/name") or upper
        yield f"part of {named(shown)}"
        if upper not in seen:
            yield from _users_of(machine, used, upper, seen)


def _decoded(text: str) -> str:
    r"""A path as mountinfo shows it, such as ``/srv/a\040b`` (mangle() in the kernel's fs/proc_namespace.c)."""
    first, *rest = text.split("\\")
    return first + "".join(
        chr(int(part[:3], 8)) + part[3:] if len(part) > 2 and set(part[:3]) <= _OCTAL else f"\\{part}" for part in rest
    )


def _network(machine: Machine, name: str) -> Iterator[str]:
    """What an interface is needed for. An interface that is merely up is not in use."""
    stacked, pending = dict[str, None](), [name]
    while pending:
        here = pending.pop()
        stacked[here] = None
        folder = f"{machine.sys}/class/net/{here}"
        pending += [upper for entry in attributes.entries(folder) if (upper := _upper(entry)) and upper not in stacked]
        master = attributes.link(f"{folder}/master")
        if master:
            kinds = attributes.entries(f"{machine.sys}/class/net/{master}")
            kind = next((kind for kind, sign in (("bridge", "bridge"), ("bond", "bonding")) if sign in kinds), "device")
            yield f"is in the {kind} {named(master)}"
    v4 = (line.split() for line in attributes.whole(f"{machine.proc}/net/route").splitlines()[1:])
    v6 = (line.split() for line in attributes.whole(f"{machine.proc}/net/ipv6_route").splitlines())
    routes = [fields[0] for fields in v4 if len(fields) > 7 and fields[1] == fields[7] == _DEFAULT_V4]
    routes += [fields[9] for fields in v6 if len(fields) > 9 and fields[0] == _DEFAULT_V6 and fields[1] == "00"]
    for interface in stacked:
        if interface in routes:
            through = "" if interface == name else f" by way of {named(interface)}"
            yield f"has the default route{through}"


def _upper(entry: str) -> str:
    return entry.removeprefix("upper_") if entry.startswith("upper_") else ""
