# SPDX-License-Identifier: LGPL-2.1-or-later
"""The few parts of the module libvirt that libhook uses, and a libvirtd that does what a test says."""

from collections.abc import Callable
from typing import Any

VIR_DOMAIN_EVENT_ID_LIFECYCLE = 0
VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED = 15
VIR_DOMAIN_EVENT_ID_DEVICE_ADDED = 19
VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED = 22
VIR_DOMAIN_EVENT_STARTED = 2
VIR_DOMAIN_EVENT_STOPPED = 5
VIR_DOMAIN_EVENT_SUSPENDED = 3
VIR_CONNECT_LIST_DOMAINS_ACTIVE = 1
VIR_EVENT_HANDLE_READABLE = 1
VIR_ERR_NO_DOMAIN = 42

Callback = Callable[..., Any]


class libvirtError(Exception):  # noqa: N801 - libvirt's own name
    """What every call may raise."""

    def get_error_message(self) -> str:
        """The reason alone."""
        return str(self.args[0])

    def get_error_code(self) -> int:
        """What kind it is; 1 is an internal error."""
        return int(self.args[1]) if len(self.args) > 1 else 1


class Domain:
    """A guest as libvirt has it."""

    def __init__(self, uuid: str, name: str = "g", number: int = 1, runs: bool = True) -> None:
        """``asked`` collects what was asked of it; ``trouble`` is raised at the next plugging."""
        self.uuid, self.name, self.number, self.runs = uuid, name, number, runs
        self.asked: list[tuple[str, str, int]] = []
        self.trouble: Exception | None = None

    def UUIDString(self) -> str:  # noqa: N802
        """Its UUID."""
        return self.uuid

    def isActive(self) -> int:  # noqa: N802
        """Whether it runs."""
        return int(self.runs)

    def XMLDesc(self) -> str:  # noqa: N802
        """Its XML, in two lines."""
        return f"<domain>\n{self.name}</domain>"

    def attachDeviceFlags(self, document: str, flags: int) -> None:  # noqa: N802
        """Remember it."""
        self._plug("attach", document, flags)

    def detachDeviceFlags(self, document: str, flags: int) -> None:  # noqa: N802
        """Remember it."""
        self._plug("detach", document, flags)

    def _plug(self, verb: str, document: str, flags: int) -> None:
        if self.trouble:
            raise self.trouble
        self.asked.append((verb, document, flags))


class Connection:
    """One connection; ``alive`` is what keepalive found out."""

    def __init__(self, domains: list[Domain]) -> None:
        """To a libvirtd with these guests."""
        self.domains = domains
        self.alive = True
        self.closed = False
        self.heard: dict[int, tuple[Callback, object]] = {}

    def setKeepAlive(self, interval: int, count: int) -> None:  # noqa: N802
        """Libvirt itself would now look whether the other side lives."""
        assert interval > 0
        assert count > 0

    def domainEventRegisterAny(self, _domain: object, event: int, hear: Callback, opaque: object) -> None:  # noqa: N802
        """Remember who wants to hear it."""
        self.heard[event] = (hear, opaque)

    def tell(self, event: int, domain: Domain, *details: object) -> None:
        """libvirt has something to say, from within its event loop."""
        hear, opaque = self.heard[event]
        hear(self, domain, *details, opaque)

    def isAlive(self) -> int:  # noqa: N802
        """Whether the other side answers."""
        return int(self.alive)

    def close(self) -> None:
        """Twice is an error, as libvirt has it."""
        if self.closed or not self.alive:
            raise libvirtError("not connected")
        self.closed = True

    def listAllDomains(self, flags: int) -> list[Domain]:  # noqa: N802
        """The guests that run."""
        assert flags == VIR_CONNECT_LIST_DOMAINS_ACTIVE
        return [domain for domain in self.domains if domain.runs]

    def lookupByUUIDString(self, uuid: str) -> Domain:  # noqa: N802
        """By UUID."""
        return self._find(lambda domain: domain.uuid == uuid)

    def lookupByName(self, name: str) -> Domain:  # noqa: N802
        """By name."""
        return self._find(lambda domain: domain.name == name)

    def lookupByID(self, number: int) -> Domain:  # noqa: N802
        """By number."""
        return self._find(lambda domain: domain.number == number)

    def _find(self, fits: Callable[[Domain], bool]) -> Domain:
        for domain in self.domains:
            if fits(domain):
                return domain
        raise libvirtError("Domain not found", VIR_ERR_NO_DOMAIN)


class Daemon:
    """In place of the module: what is opened, and what comes of each turn of the event loop, is the test's."""

    def __init__(self) -> None:
        """Nobody answers yet, and nothing happens."""
        self.libvirtError = libvirtError
        self.opens: list[Connection | str] = []
        self.turns: list[Callable[[], object]] = []
        self.timers: dict[int, tuple[int, Callback]] = {}
        self.handles: list[tuple[int, Callback]] = []
        self.uris: list[str] = []

    def __getattr__(self, name: str) -> object:
        """The constants."""
        if name.startswith("VIR_"):
            return globals()[name]
        raise AttributeError(name)

    def registerErrorHandler(self, handler: Callback, opaque: object) -> None:  # noqa: N802
        """It is given one error, as when a connection fails."""
        handler(opaque, ("an error",))

    def virEventRegisterDefaultImpl(self) -> None:  # noqa: N802
        """libvirt's own loop is asked for."""

    def openReadOnly(self, uri: str) -> Connection:  # noqa: N802
        """The next of ``opens``: a connection, or why there is none."""
        self.uris.append(uri)
        answer = self.opens.pop(0)
        if isinstance(answer, str):
            raise libvirtError(answer)
        return answer

    open = openReadOnly

    def virEventAddTimeout(self, milliseconds: int, then: Callback, _opaque: object) -> int:  # noqa: N802
        """Remember it; the test decides when it is due."""
        number = len(self.timers) + 1
        self.timers[number] = (milliseconds, then)
        return number

    def virEventRemoveTimeout(self, number: int) -> None:  # noqa: N802
        """It is known."""
        assert number in self.timers

    def virEventAddHandle(self, descriptor: int, _events: int, then: Callback, _opaque: object) -> None:  # noqa: N802
        """Remember it."""
        self.handles.append((descriptor, then))

    def virEventRunDefaultImpl(self) -> None:  # noqa: N802
        """The test's next turn, which must be there: nothing may turn for ever."""
        self.turns.pop(0)()
