# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt asked by a child: its answers, its errors, and a libvirtd that gives none."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import fake_libvirt
import overdue
import pytest
from fake_libvirt import Connection, Daemon, Domain, libvirtError
from family import until

from libhook.children import child, telling
from libhook.children.child import Deadline
from libhook.effects import locks
from libhook.errors import DeadlineExpired, LibhookError, Refused
from libhook.hotplug.hypervisor import Found, Hypervisor, NoSuchGuest

A, B = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
REMOVED = fake_libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
KEPT = fake_libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """In place of the module, also in a child."""
    it = Daemon()
    monkeypatch.setitem(sys.modules, "libvirt", it)
    return it


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child would do is done here, where the test sees what became of it."""

    def listen(task: Callable[[Callable[[bytes], None]], None], _mark: str | None) -> mock.Mock:
        said: list[bytes] = []
        task(said.append)
        return mock.Mock(lines=lambda _deadline: b"\n".join(said).decode().split("\n"))

    monkeypatch.setattr(telling, "listen", listen)


def soon() -> Deadline:
    """Enough for whoever answers."""
    return Deadline.after(200)


@pytest.mark.parametrize("name", ["g", A, "7"])
def test_found_by_name_uuid_or_number(daemon: Daemon, name: str) -> None:
    """By a child, whose answer comes back whole."""
    daemon.opens = [Connection([Domain(A, "g", 7), Domain(B, "7", 8, runs=False)])]
    assert Hypervisor("qemu:///lab").find(name, soon()) == Found(A, True, b"<domain>\ng</domain>")


@pytest.mark.usefixtures("at_home")
def test_found_as_virsh_finds(daemon: Daemon) -> None:
    """A number is a guest's number first, then a name; a guest need not run; one that is not there is refused."""
    guests = [Domain(A, "g", 7), Domain(B, "9", 8, runs=False)]
    daemon.opens = [Connection(guests) for _ in range(3)]
    assert Hypervisor().find("7", soon()).uuid == A
    assert Hypervisor().find("9", soon()) == Found(B, False, b"<domain>\n9</domain>")
    with pytest.raises(NoSuchGuest, match="libvirt: Domain not found"):
        Hypervisor().find("h", soon())
    assert daemon.uris == ["qemu:///system"] * 3


@pytest.mark.usefixtures("at_home")
def test_attach(daemon: Daemon) -> None:
    """The document and the flags reach libvirt; its refusal comes back with its reason, in a line."""
    guest = Domain(A)
    daemon.opens = [Connection([guest]), Connection([guest])]
    Hypervisor().attach(A, b"<hostdev/>", 3, soon())
    assert guest.asked == [("attach", "<hostdev/>", 3)]
    guest.trouble = libvirtError("no slot\nleft")
    with pytest.raises(Refused, match=r"^libvirt: no slot left$"):
        Hypervisor().attach(A, b"<hostdev/>", 3, soon())


@pytest.mark.parametrize("is_there", [True, False])
def test_the_mark_of_a_question(daemon: Daemon, tmp_path: Path, is_there: bool) -> None:
    """Locked while a child asks for something to be plugged, and gone when libvirt has answered; it can do without."""
    mark = tmp_path / ("mark" if is_there else "no folder/mark")
    guest = Domain(A)

    def look(_uri: str) -> Connection:
        (tmp_path / "said").write_text(str(locks.is_locked(str(mark))))
        return Connection([guest])

    daemon.__dict__["open"] = look
    Hypervisor(mark=str(mark)).attach(A, b"<hostdev/>", 1, soon())
    assert (tmp_path / "said").read_text() == str(is_there)
    Hypervisor(mark=str(mark)).find(A, soon())
    assert (tmp_path / "said").read_text() == "False"
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


@pytest.mark.usefixtures("at_home")
def test_the_mark_goes_when_libvirt_has_answered(daemon: Daemon, tmp_path: Path) -> None:
    """Though the process that was asked to plug goes on."""
    mark = tmp_path / "mark"
    daemon.opens = [Connection([Domain(A)])]
    mark.touch()
    Hypervisor(mark=str(mark)).attach(A, b"<hostdev/>", 1, soon())
    assert not mark.exists()


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(("event", "answer"), [(REMOVED, "gone"), (KEPT, "kept")])
def test_the_guest_answers(daemon: Daemon, event: int, answer: str) -> None:
    """libvirt's success is not the guest's; what it says of another device is no answer."""
    guest = Domain(A)
    libvirtd = Connection([guest])
    daemon.opens = [libvirtd]
    daemon.turns = [
        lambda: libvirtd.tell(event, guest, "hostdev1"),
        lambda: libvirtd.tell(event, guest, "hostdev0"),
    ]
    assert Hypervisor().detach(A, b"<hostdev/>", "hostdev0", 1, soon()) == answer
    assert guest.asked == [("detach", "<hostdev/>", 1)]
    assert daemon.turns == []


@pytest.mark.usefixtures("at_home")
def test_the_guest_does_not_answer(daemon: Daemon) -> None:
    """When the deadline passes, or libvirtd is gone; looked at five times a second."""
    libvirtd = Connection([Domain(A)])
    daemon.opens = [libvirtd, libvirtd]
    daemon.turns = [lambda: time.sleep(0.2)]
    assert Hypervisor().detach(A, b"<hostdev/>", "hostdev0", 1, overdue.soon(0.2)) == "silent"
    [(milliseconds, due)] = daemon.timers.values()
    assert milliseconds == 200
    due(1, None)
    daemon.turns = [lambda: setattr(libvirtd, "alive", False)]
    assert Hypervisor().detach(A, b"<hostdev/>", "hostdev0", 1, soon()) == "silent"


@pytest.mark.usefixtures("at_home")
def test_nothing_to_wait_for(daemon: Daemon) -> None:
    """What only the configuration had has no alias, and is gone at once."""
    daemon.opens = [Connection([Domain(A)])]
    assert Hypervisor().detach(A, b"<hostdev/>", "", 2, soon()) == "gone"


@pytest.mark.usefixtures("at_home")
def test_without_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package that is missing is named."""
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(LibhookError, match="the module libvirt is missing"):
        Hypervisor().find("g", soon())


def test_libvirtd_does_not_answer(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It costs the child that asks, not us."""
    go = tmp_path / "go"
    monkeypatch.setattr(daemon, "open", lambda _uri: until(go.exists))
    with pytest.raises(DeadlineExpired, match="did not answer in time"):
        Hypervisor().find("g", overdue.soon())
    go.touch()
    child.reap(Deadline.after(100))  # what was left behind is buried here, and not by another test


@pytest.mark.usefixtures("at_home")
def test_libvirtd_goes_away(daemon: Daemon) -> None:
    """Then nobody knows whether it did what it was asked for, as when it does not answer."""
    guest = Domain(A)
    guest.trouble = libvirtError("End of file while reading data")
    libvirtd = Connection([guest])
    libvirtd.alive = False
    daemon.opens = [libvirtd]
    with pytest.raises(DeadlineExpired, match="was lost before it answered"):
        Hypervisor().attach(A, b"<hostdev/>", 1, soon())


def test_a_child_that_dies(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing said is no answer, whatever the deadline."""

    def crash(_uri: str) -> None:
        raise MemoryError

    monkeypatch.setattr(daemon, "open", crash)
    with pytest.raises(DeadlineExpired, match="did not answer"):
        Hypervisor().find("g", soon())
