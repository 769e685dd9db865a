# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the watch makes of guests that are gone and still hold something: systemd runs ``libhook recover`` for them."""

from typing import Any

import hanging
import pytest
from aftermath import recover
from cases import NIC
from scenario import Host, reap
from units import BEFORE, WIN11, host_with, states, told
from watch_play import Watched

from libhook.children.child import Deadline
from libhook.hotplug import remains
from libhook.hotplug.remains import UNIT
from libhook.simulation import faults, processes, store, systemd

START = f"start {UNIT}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits until it is certain that a guest is gone."""
    monkeypatch.setattr(remains, "_CERTAIN", 0.0)


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """One with the unit, and a guest that keeps others down."""
    host = host_with(root)
    systemd.add(root, UNIT, active="inactive")
    assert host.libvirt.start(WIN11).error == ""
    return host


def _dies(host: Host) -> None:
    """QEMU is killed, and libvirt forgets the guest without a hook: it was taken away, or was killed itself."""
    status = f"{host.root}/run/libvirt/qemu/win11"
    processes.end(host.root, int(store.read(f"{status}.pid")))
    for suffix in ("xml", "pid"):
        store.unlink(f"{status}.{suffix}")
    host.libvirt._running.pop("win11")


def _started(host: Host) -> int:
    """How often the unit was started since that was asked; it has ended."""
    assert reap(60)
    found = told(host).count(START)
    store.unlink(f"{host.root}/var/log/systemctl.jsonl")
    systemd.change(host.root, UNIT, active="inactive")
    return found


def _log(host: Host, event: str) -> list[dict[str, Any]]:
    return [one for one in store.lines(f"{host.root}/var/log/libhook.jsonl") if one["event"] == event]


def _connected(host: Host) -> Watched:
    watched = Watched(host)
    watched.guest = WIN11
    watched.connect()
    assert _started(host) == 0
    return watched


def test_a_guest_that_lives_is_left_alone(host: Host) -> None:
    """Whatever happens to libvirtd, and at the guest's own end."""
    watched = _connected(host)
    watched.watcher.lost("gone")
    watched.connect()
    host.libvirt.stop("win11")
    watched.guest = None
    watched.tell("ended")
    assert (_started(host), states(host)) == (0, BEFORE)


@pytest.mark.parametrize("how", ["connected", "lost", "ended", "awake"])
def test_a_guest_that_is_gone(host: Host, how: str) -> None:
    """Whenever the watch learns of it. It is told once, and the sandbox keeps out of the rest."""
    watched = _connected(host)
    _dies(host)
    watched.guest = None

    def happen() -> None:
        match how:
            case "connected":
                watched.connect()
            case "lost":
                watched.watcher.lost("gone")
            case "ended":
                watched.tell("ended")
            case "awake":
                watched.watcher.awake()
                assert _started(host) == 0, "too soon"
                watched.watcher._due = 0.0
                watched.watcher.awake()

    happen()
    assert _started(host) == 1
    assert [one["reason"] for one in _log(host, "recovering")] == [
        "these guests are gone, and not all is given back: win11"
    ]
    if how != "connected":  # then what could not be settled is tried again
        happen()
        assert _started(host) == 0
    recover(host)
    happen()
    assert (_started(host), states(host), host.driver(NIC)) == (0, BEFORE, "e1000e")


def test_an_ordinary_end_is_not_taken_for_a_death(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt forgets the guest a moment before it calls ``release``. If that does not come, it was one."""
    watched = _connected(host)
    _dies(host)
    monkeypatch.setattr(remains, "_CERTAIN", 3600.0)
    for _ in range(2):
        watched.watcher.lost("gone")
    assert _started(host) == 0
    monkeypatch.setattr(remains, "_CERTAIN", 0.0)
    watched.watcher.lost("gone")
    assert _started(host) == 1


def test_the_next_life_counts_anew(host: Host) -> None:
    """Also where its entry says the same."""
    watched = _connected(host)
    held = host.state.load(WIN11.uuid)
    assert held
    watched.watcher._remains._told = {WIN11.uuid: held}
    watched.watcher.lost("gone")
    _dies(host)
    watched.watcher.lost("gone")
    assert _started(host) == 1


def test_what_is_at_work_is_not_told_again(host: Host) -> None:
    """It may be the unit itself; if that fails, nothing has changed."""
    watched = _connected(host)
    _dies(host)
    watched.watcher.lost("gone")
    assert _started(host) == 1
    with host.state.locked([f"domain-{WIN11.uuid}"], Deadline.after(60)):
        watched.watcher.lost("gone")
    watched.watcher.lost("gone")
    assert _started(host) == 0
    watched.guest = None
    watched.connect()
    assert _started(host) == 1


@pytest.mark.parametrize("how", ["no systemd", "no answer"])
def test_without_systemd_it_says_what_to_run(host: Host, how: str) -> None:
    """On the terminal, too."""
    shown: list[str] = []
    watched = _connected(host)
    watched.watcher._show = shown.extend
    fault = faults.Fault("systemctl start*", nth=0, error="ENOENT")
    if how == "no answer":
        fault = faults.Fault("systemctl start*", nth=0, before=hanging.HANG)
        hanging.late(host.root)
    faults.inject(host.root, fault)
    _dies(host)
    watched.watcher.lost("gone")
    hanging.let_go(host.root)
    assert reap(60)
    (said,) = _log(host, "not given back")
    assert said["hint"] == "run: libhook recover"
    assert any("run: libhook recover" in line for line in shown)


def test_an_entry_that_cannot_be_read_stops_nothing(host: Host) -> None:
    """It is not known to be dead."""
    watched = _connected(host)
    store.replace(host.root, f"{host.machine.state}/domains/{WIN11.uuid}.json", "broken")
    watched.watcher.lost("gone")
    assert (_started(host), _log(host, "libhook itself failed")) == (0, [])
