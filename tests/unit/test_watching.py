# SPDX-License-Identifier: LGPL-2.1-or-later
"""The connection that lasts: what it tells of libvirt's events, when libvirtd is away, and to the service manager."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import fake_libvirt
import pytest
from fake_libvirt import Daemon, Domain

from libhook.errors import LibhookError
from libhook.hotplug import watching
from libhook.hotplug.notify import ServiceManager
from libhook.hotplug.watching import Connection

A, B = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
ADDED = fake_libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED
REMOVED = fake_libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
KEPT = fake_libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED
LIFECYCLE = fake_libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE


class Listener:
    """Writes down all that it is told; ``then`` is done at each."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.told: list[object] = []
        self.turns = 0
        self.then: Callable[[], object] = lambda: None

    def connected(self, running: dict[str, bytes]) -> None:
        """With the guests that run."""
        self.told.append(running)

    def happened(self, what: str, uuid: str, alias: str) -> None:
        """One event."""
        self.told.append((what, uuid, alias))
        self.then()

    def awake(self) -> None:
        """At each turn of the loop."""
        self.turns += 1

    def lost(self, reason: str) -> None:
        """And why."""
        self.told.append(reason)


class Manager(ServiceManager):
    """Writes down what it is told."""

    def __init__(self) -> None:
        """A watchdog of eight seconds."""
        super().__init__({"WATCHDOG_USEC": "8000000"})
        self.told: list[str] = []

    def tell(self, text: str) -> None:
        """Instead of sending it."""
        self.told.append(text)


class Watching:
    """A connection to a libvirtd that does what the test says, its clock, and who listens."""

    def __init__(self, daemon: Daemon, clock: list[float]) -> None:
        """Nothing is connected yet."""
        self.daemon, self.listener, self.manager = daemon, Listener(), Manager()
        self.connection = Connection("qemu:///lab", self.manager)
        self.clock = clock

    def opens(self, *domains: Domain) -> fake_libvirt.Connection:
        """The next attempt connects."""
        connection = fake_libvirt.Connection(list(domains))
        self.daemon.opens.append(connection)
        return connection

    def turns(self, *turns: Callable[[], object]) -> None:
        """What comes of the next turns of the event loop."""
        self.daemon.turns += turns

    def passes(self, seconds: float) -> Callable[[], None]:
        """A turn in which only time passes."""

        def turn() -> None:
            self.clock[0] += seconds

        return turn

    def stops(self) -> Callable[[], None]:
        """A turn in which we are told to stop."""
        return lambda: os.kill(os.getpid(), signal.SIGTERM)

    def run(self) -> list[object]:
        """Run until that; what the listener was told."""
        self.connection.run(self.listener)
        assert self.daemon.turns == []
        return self.listener.told


@pytest.fixture
def watching_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """With the fake module, a clock that stands, and the signals as they were afterwards."""
    daemon, clock = Daemon(), [100.0]
    monkeypatch.setitem(sys.modules, "libvirt", daemon)
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    it = Watching(daemon, clock)
    yield it
    for number, handler in handlers.items():
        signal.signal(number, handler)
    writer = signal.set_wakeup_fd(-1)
    for descriptor in (writer, *(descriptor for descriptor, _ in daemon.handles)):
        os.close(descriptor)


def test_events_are_told_in_order(watching_it: Watching) -> None:
    """What runs first, then each event by its guest and alias; what is no concern of ours is not told."""
    one = Domain(A)
    libvirtd = watching_it.opens(one, Domain(B, runs=False))

    def much() -> None:
        libvirtd.tell(LIFECYCLE, one, fake_libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
        libvirtd.tell(ADDED, one, "hostdev0")
        libvirtd.tell(LIFECYCLE, one, fake_libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0)
        libvirtd.tell(KEPT, one, "hostdev0")

    def more() -> None:
        libvirtd.tell(REMOVED, one, "hostdev0")
        libvirtd.tell(LIFECYCLE, one, fake_libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)
        watching_it.stops()()

    watching_it.turns(much, more)
    assert watching_it.run() == [
        {A: b"<domain>\ng</domain>"},
        ("began", A, ""),
        ("added", A, "hostdev0"),
        ("kept", A, "hostdev0"),
        ("removed", A, "hostdev0"),
        ("ended", A, ""),
    ]
    assert watching_it.listener.turns == 2
    assert libvirtd.closed
    assert watching_it.daemon.uris == ["qemu:///lab"]


def test_libvirt_is_not_asked_from_within_an_event(watching_it: Watching) -> None:
    """It is told on after the turn; whoever hears it may look, also at a guest that is gone or does not run."""
    one, off = Domain(A), Domain(B, runs=False)
    libvirtd = watching_it.opens(one, off)
    found: list[bytes | None] = []

    def event() -> None:
        libvirtd.tell(ADDED, one, "hostdev0")
        assert watching_it.listener.told[1:] == []

    watching_it.listener.then = lambda: found.extend(
        watching_it.connection.look(uuid) for uuid in (A, B, "no such guest")
    )
    watching_it.turns(event, watching_it.stops())
    assert watching_it.connection.look(A) is None, "there is no connection yet"
    watching_it.run()
    assert found == [b"<domain>\ng</domain>", None, None]


def test_each_attempt_waits_longer(watching_it: Watching) -> None:
    """1, 2, 4, 8, 15 and then 30 seconds; the reason is told each time, and systemd that we are ready all the same."""
    pauses = [1, 2, 4, 8, 15, 30, 30]
    watching_it.daemon.opens = ["no libvirtd"] * len(pauses)
    for number, pause in enumerate(pauses, start=1):
        watching_it.turns(watching_it.passes(pause - 0.1))  # a watchdog's beat, which ends no pause
        watching_it.turns(watching_it.passes(0.1) if number < len(pauses) else watching_it.stops())
    assert watching_it.run() == ["no libvirtd"] * len(pauses)
    assert watching_it.daemon.opens == []
    assert watching_it.manager.told == [
        *["READY=1\nSTATUS=waiting for libvirtd: no libvirtd"] * len(pauses),
        "STOPPING=1\nSTATUS=",
    ]


def test_connected_again(watching_it: Watching) -> None:
    """libvirtd went away: that is told, the next attempt comes a second later, and what runs then is told anew."""
    first = watching_it.opens(Domain(A))
    watching_it.daemon.opens.append("no libvirtd")
    watching_it.opens(Domain(B))

    def dies() -> None:
        first.alive = False

    watching_it.turns(dies, watching_it.passes(1), watching_it.passes(2), watching_it.stops())
    assert watching_it.run() == [
        {A: b"<domain>\ng</domain>"},
        "libvirtd closed the connection",
        "no libvirtd",
        {B: b"<domain>\ng</domain>"},
    ]
    assert [text.partition("STATUS=")[2] for text in watching_it.manager.told[:-1]] == [
        "watching qemu:///lab",
        "waiting for libvirtd: libvirtd closed the connection",
        "waiting for libvirtd: no libvirtd",
        "watching qemu:///lab",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(watching_it: Watching, number: int) -> None:
    """libvirt's poll goes on after a signal: so there is a byte for it to read, and the loop ends with that turn."""
    watching_it.opens()

    def signalled() -> None:
        os.kill(os.getpid(), number)
        [(descriptor, read)] = watching_it.daemon.handles
        read(1, descriptor, 1, None)
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 1)

    watching_it.turns(signalled)
    assert watching_it.run() == [{}]
    assert watching_it.manager.told[-1] == "STOPPING=1\nSTATUS="


def test_signs_of_life(watching_it: Watching) -> None:
    """Twice as often as systemd wants them, and after each event, however long all of them together take."""
    libvirtd = watching_it.opens(one := Domain(A))

    def beat() -> None:
        [(milliseconds, due)] = watching_it.daemon.timers.values()
        assert milliseconds == 4000
        due(1, None)

    def two() -> None:
        libvirtd.tell(ADDED, one, "hostdev0")
        libvirtd.tell(ADDED, one, "hostdev1")

    watching_it.turns(beat, two, watching_it.stops())
    watching_it.run()
    assert watching_it.manager.told[1:-1] == ["WATCHDOG=1"] * 3


def test_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that is missing is named."""
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(LibhookError, match="the module libvirt is missing"):
        Connection("qemu:///system", ServiceManager({})).run(Listener())


@pytest.mark.parametrize("abstract", [False, True])
def test_told_to_systemd(tmp_path: Path, abstract: bool) -> None:
    """A datagram to the socket that the environment names, be it a file or an abstract name."""
    name = f"@libhook-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(60)
        receiver.bind(name.replace("@", "\0", 1))
        ServiceManager({"NOTIFY_SOCKET": name}).tell("READY=1\nSTATUS=☃")
        assert receiver.recv(100).decode() == "READY=1\nSTATUS=☃"


def test_told_to_nobody(tmp_path: Path) -> None:
    """Nobody has started us, or is there no more: nothing fails."""
    ServiceManager({}).tell("READY=1")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


@pytest.mark.parametrize(("allowed", "beat"), [("8000000", 4.0), ("500000", 1.0), ("", 30.0), ("soon", 30.0)])
def test_beat(allowed: str, beat: float) -> None:
    """Half of what systemd allows, never more often than each second; without a watchdog now and then."""
    assert ServiceManager({"WATCHDOG_USEC": allowed}).beat == beat
