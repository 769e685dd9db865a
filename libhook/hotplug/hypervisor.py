# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls libvirt's API for the commands that plug devices in and out. Never use it in the hook: that would deadlock.

A child makes each call, over a connection of its own. If libvirtd does not answer, only that child hangs. And the
threads of the library do not disturb a process that forks. Needs python3-libvirt.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from libhook.children import telling
from libhook.children.child import Deadline
from libhook.errors import DeadlineExpired, LibhookError, Refused, harmless
from libhook.hotplug.interrupts import Interrupts

if TYPE_CHECKING:
    import libvirt

DEFAULT_URI = "qemu:///system"
MISSING = LibhookError(
    "the module libvirt is missing", "install python3-libvirt (Arch: libvirt-python, openSUSE: python3-libvirt-python)"
)
_KEEPALIVE = (5, 3)
"""Seconds between two keepalive messages, and how many libvirtd may leave unanswered."""
_SEE = "see whether it runs; under systemd, run: systemctl status libvirtd virtqemud"
_DETACH_TAKES = 15.0
"""Seconds that we wait beyond the deadline. libvirt itself waits 5 for the guest (10 on ppc64, qemu_hotplug.c:75)."""


class NoSuchGuest(Refused):
    """libvirt knows no such guest, or the guest has ended."""


Gone = Literal["gone", "kept", "silent"]
"""How a guest answered when it was asked for a device: it gave it up, refused, or did not answer in time."""


class Found(NamedTuple):
    """A guest as libvirt describes it."""

    uuid: str
    runs: bool
    document: bytes
    """The live XML of a guest that runs, otherwise its configuration."""


class Hypervisor:
    """Asks one libvirtd, named by its URI."""

    def __init__(self, uri: str = DEFAULT_URI, interrupts: Interrupts | None = None, mark: str | None = None) -> None:
        """Remember the URI.

        ``mark`` is a file that a child keeps locked while it asks libvirt to plug a device (State.mark_of).
        """
        self._uri = uri
        self._interrupts = interrupts or Interrupts()
        self._mark = mark

    def find(self, name: str, deadline: Deadline) -> Found:
        """Return the guest of this name, UUID or number. NoSuchGuest if libvirt knows none."""

        def ask(connection: "libvirt.virConnect") -> list[str]:
            domain = _lookup(connection, name)
            return [domain.UUIDString(), str(domain.isActive()), domain.XMLDesc()]

        uuid, runs, *document = self._ask(ask, deadline)
        return Found(uuid, runs == "1", "\n".join(document).encode("utf-8", "surrogateescape"))

    def attach(self, uuid: str, document: bytes, flags: int, deadline: Deadline) -> None:
        """Do ``virsh attach-device``. Refused with libvirt's reason; DeadlineExpired if nobody knows how it ended."""

        def ask(connection: "libvirt.virConnect") -> list[str]:
            connection.lookupByUUIDString(uuid).attachDeviceFlags(document.decode(), flags)
            return []

        self._ask(ask, deadline, plugs=True)

    def detach(self, uuid: str, document: bytes, alias: str, flags: int, deadline: Deadline) -> Gone:
        """Do ``virsh detach-device``, then wait for the guest's answer. libvirt itself returns success before that.

        ``alias`` is the device's name in libvirt's events. With "" there is nothing to wait for, and "gone" comes at
        once. Errors as ``attach``.
        """

        def ask(connection: "libvirt.virConnect") -> list[str]:
            import libvirt

            answers: list[Gone] = []

            def hear(_connection: object, _domain: object, device: str, answer: Gone) -> None:
                if device == alias:
                    answers.append(answer)

            domain = connection.lookupByUUIDString(uuid)
            for event, answer in (
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, "gone"),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, "kept"),
            ):
                connection.domainEventRegisterAny(domain, event, hear, answer)
            domain.detachDeviceFlags(document.decode(), flags)
            if not alias:
                return ["gone"]
            libvirt.virEventAddTimeout(200, lambda *_: None, None)  # wakes the loop, so that it checks the deadline
            while not answers and deadline.left and connection.isAlive():
                libvirt.virEventRunDefaultImpl()
            return [answers[0] if answers else "silent"]

        answer = self._ask(ask, Deadline(deadline.at + _DETACH_TAKES), plugs=True)[0]
        return "gone" if answer == "gone" else "kept" if answer == "kept" else "silent"

    def _ask(
        self, task: Callable[["libvirt.virConnect"], list[str]], deadline: Deadline, *, plugs: bool = False
    ) -> list[str]:
        mark = self._mark if plugs else None

        def ask(say: Callable[[bytes], None]) -> None:
            try:
                import libvirt
            except ImportError:
                say(b"missing")
                return
            connection = None
            try:
                libvirt.virEventRegisterDefaultImpl()
                connection = libvirt.open(self._uri)
                connection.setKeepAlive(*_KEEPALIVE)
                answer = ["ok", *task(connection)]
            except libvirt.libvirtError as error:
                kind = "unknown" if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN else "error"
                if connection and not connection.isAlive():
                    kind = "lost"
                answer = [kind, error.get_error_message() or str(error)]
            say("\n".join(answer).encode("utf-8", "surrogateescape"))
            if mark:
                with suppress(OSError):
                    os.unlink(mark)

        self._interrupts.begin(plugs=plugs)
        speech = telling.listen(ask, mark)
        with self._interrupts.waiting(speech.leave):
            answer = speech.lines(deadline)
        match answer:
            case ["ok", *rest]:
                return rest
            case ["error", *reason]:
                raise Refused(f"libvirt: {harmless(' '.join(reason))}")
            case ["unknown", *reason]:
                raise NoSuchGuest(f"libvirt: {harmless(' '.join(reason))}", "virsh list --all shows the guests")
            case ["lost", *_]:
                raise DeadlineExpired("the connection to libvirtd was lost before it answered", _SEE)
            case ["missing"]:
                raise MISSING
        raise DeadlineExpired("libvirtd did not answer in time", _SEE)


def _lookup(connection: "libvirt.virConnect", name: str) -> "libvirt.virDomain":
    """Find a guest as virsh does: by ID if the name is a number, then by UUID, then by name."""
    import libvirt

    ways: list[Callable[[], libvirt.virDomain]] = [
        lambda: connection.lookupByUUIDString(name),
        lambda: connection.lookupByName(name),
    ]
    if name.isascii() and name.isdigit():
        ways.insert(0, lambda: connection.lookupByID(int(name)))
    for way in ways[:-1]:
        try:
            return way()
        except libvirt.libvirtError:
            continue
    return ways[-1]()
