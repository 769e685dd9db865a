# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook attach`` and ``detach`` interrupted, by Ctrl-C or SIGTERM, while libvirtd takes its time."""

import os
import signal
import sys
from typing import Any

import hanging
import pytest
from cases import NIC
from command import libhook
from fake_libvirt import Connection, Daemon, Domain
from plugging import running, xml
from scenario import Host, guest, reap

from libhook.children.child import Deadline
from libhook.facts.entry import Process
from libhook.hotplug import handover
from libhook.hotplug.request import UNKNOWN
from libhook.look import processes
from libhook.simulation.guests import Assigned

pytestmark = pytest.mark.race

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


class Win11(Domain):
    """Asked to plug, by a child, it interrupts that child's parent, and answers when it is told to."""

    def __init__(self, host: Host, number: int) -> None:
        """It runs."""
        super().__init__(guest().uuid, "win11")
        self._host = host
        self._number = number
        self._answer = f"{host.root}/answer"
        os.mkfifo(self._answer)

    def XMLDesc(self) -> str:  # noqa: N802
        """What it has."""
        return self._host.libvirt.guests[0].xml(1, prepared=True).decode()

    def _plug(self, *_: object) -> None:
        os.kill(os.getppid(), self._number)
        os.close(os.open(self._answer, os.O_RDONLY))

    def answer(self) -> None:
        """The child hears it, and ends."""
        hanging.answer(self._answer)


def _begin(root: str, monkeypatch: pytest.MonkeyPatch, number: int, *devices: str) -> tuple[Host, Win11]:
    """The command plays in this process; to all others it is one that has ended since."""
    host = running(root, *devices)
    host.patience = 0.1
    win11, daemon = Win11(host, number), Daemon()
    monkeypatch.setattr(daemon, "open", lambda _uri: Connection([win11]))
    monkeypatch.setitem(sys.modules, "libvirt", daemon)
    monkeypatch.setattr(processes, "own", lambda _: Process(4711, 1))
    return host, win11


def _recover(host: Host, *options: str) -> str:
    done = libhook(host, "recover", *options)
    assert (done.code, done.err) == (0, "")
    return done.out


@SIGNALS
@pytest.mark.parametrize("has_it", [False, True])
def test_attach(root: str, monkeypatch: pytest.MonkeyPatch, number: int, has_it: bool) -> None:
    """It says that nobody knows; what libvirt was asked for is taken from nobody until libvirt has answered."""
    host, win11 = _begin(root, monkeypatch, number)
    assert libhook(host, "attach", "win11", "-", stdin=xml(NIC)) == (
        1,
        "",
        f"interrupted before libvirtd answered; it is not known whether win11 has it: {UNKNOWN}\n",
    )
    for options in (["--dry-run"], []):
        assert _recover(host, *options) == "win11: left alone, because libvirt says that the guest win11 runs\n"
    assert (host.trail, host.driver(NIC)) == ([], "vfio-pci")
    if has_it:
        assert host.libvirt.attach("win11", Assigned(NIC)) == ""
    win11.answer()
    assert reap(60)
    assert _recover(host) == "win11: the unfinished hot-plug is ended\n"
    assert host.trail == [f"attach {NIC} {'success' if has_it else 'failed'}"]
    assert host.driver(NIC) == ("vfio-pci" if has_it else "e1000e")
    host.libvirt.stop("win11", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


@SIGNALS
def test_detach(root: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As attach; the child that asks is killed here before it has an answer."""
    host, win11 = _begin(root, monkeypatch, number, NIC)
    done = libhook(host, "detach", "win11", "-", stdin=xml(NIC))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"interrupted before libvirtd answered; it is not known whether win11 has pci {NIC}: ")
    assert "left alone" in _recover(host)
    host.libvirt.unplug("win11", NIC)
    win11.answer()
    assert reap(60)
    assert _recover(host) == "win11: the unfinished hot-plug is ended\n"
    assert (host.trail, host.driver(NIC)) == ([f"start {NIC} success", f"detach {NIC} success"], "e1000e")
    host.libvirt.stop("win11", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


@SIGNALS
def test_attach_before_libvirt_is_asked(root: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """What was taken is given back, and libvirt is not asked; it is recorded as failed."""
    host, _ = _begin(root, monkeypatch, number)
    take = handover.begin_attach

    def take_meanwhile(*arguments: Any) -> None:  # noqa: ANN401 - passed on
        os.kill(os.getpid(), number)
        take(*arguments)
        assert host.driver(NIC) == "vfio-pci"

    monkeypatch.setattr(handover, "begin_attach", take_meanwhile)
    assert libhook(host, "attach", "win11", "-", stdin=xml(NIC)) == (1, "", "interrupted before libvirt was asked\n")
    assert (host.trail, host.driver(NIC)) == ([f"attach {NIC} failed"], "e1000e")
    host.libvirt.stop("win11", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_a_killed_process_was_about_to_record_is_told(
    root: str, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    """By status and by dry runs, as what recover then does; while somebody has the guest's lock, it is left to him."""
    host, _ = _begin(root, monkeypatch, signal.SIGINT, NIC)
    held = host.state.load(guest().uuid)
    assert held
    host.state.save(held._replace(devices=(held.devices[0]._replace(began="attach", pending="begin"),)))
    status = libhook(host, "status").out
    assert "[its record may be missing]" in status
    assert f"recover: ends the unfinished hot-plug of pci {NIC}; else leaves it" in status
    again = f"  {NIC}: its record would be sent again\n"
    assert again in _recover(host, "--dry-run")
    with host.state.locked([f"domain-{guest().uuid}"], Deadline.after(60)):
        busy = "win11: left alone, because a libhook process works on the guest win11\n"
        assert (_recover(host, "--dry-run"), _recover(host)) == (busy, busy)
    if is_gone:
        host.libvirt.unplug("win11", NIC)
        dry = libhook(host, "detach", "win11", "-", "--dry-run", stdin=xml(NIC))
        assert (dry.code, dry.err) == (0, "")
        done = libhook(host, "detach", "win11", "-", stdin=xml(NIC))
        assert done.out == f"win11: had given up pci {NIC} already; the host has it back\n"
        assert host.trail[1:] == [f"attach {NIC} success", f"detach {NIC} success"]
        return
    assert _recover(host) == "win11: the unfinished hot-plug is ended\n"
    assert host.trail == [f"start {NIC} success", f"attach {NIC} success"]
    assert "its record" not in libhook(host, "status").out
