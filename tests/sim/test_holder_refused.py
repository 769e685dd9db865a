# SPDX-License-Identifier: LGPL-2.1-or-later
"""Starts that are refused although the settings let sessions and processes be ended: before that, or after it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import hanging
import pytest
from cases import DISK, GPU
from holding import (
    KWIN,
    OTHER,
    PLASMA,
    STREAM,
    SUNSHINE,
    WIN11,
    desktop,
    host_with,
    refused,
    shorten,
    signals,
    stream,
)
from scenario import Host, guest
from units import SDDM

from libhook.children.child import Deadline
from libhook.errors import KERNEL_LOG, BadInput
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.kinds.holder import KIND, End, carry_out, read
from libhook.kinds.kind import Failure, Work
from libhook.simulation import faults, logind, processes, systemd
from libhook.simulation.hosts import workstation
from libhook.story.session import make_state

TERM, KILL = 15, 9


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


def test_a_holder_that_is_not_listed_refuses_before_anything_is_ended(root: str) -> None:
    """By another program, whatever it calls itself, and whatever its path looks like."""
    host = host_with(root, "sessions", SUNSHINE)
    desktop(root)
    stream(root)
    stream(root, OTHER, program="/opt/usr/bin/sunshine", group="/system.slice/other.service")
    line = refused(host)
    assert line.startswith(f"{GPU} is in use by the host: ")
    assert f"; {GPU} is also open in sunshine (pid {OTHER}), which may not be ended: " in line
    assert (signals(host), logind.is_there(root, "2")) == ([], True)


def test_what_else_refuses_the_device_comes_first(root: str) -> None:
    """Another device of the guest, or a unit that does not stop: nobody has lost anything."""
    host = host_with(root, "sessions", more=f'[units]\n"{SDDM}" = "down"\n')
    desktop(root)
    systemd.add(root, SDDM, stops=False)
    line = refused(host)
    assert f"{SDDM} does not stop" in line
    assert "not coming back" not in line
    assert logind.is_there(root, "2")


def test_a_value_that_cannot_be_set_comes_first(root: str) -> None:
    """It would have been set after the device is looked at, but nothing else may fail after an end."""
    host = host_with(root, SUNSHINE, more='[values]\n"vm.none" = 1\n')
    stream(root)
    assert "/proc/sys/vm/none" in refused(host)
    assert signals(host) == []


def test_a_driver_that_cannot_be_loaded_comes_first(root: str) -> None:
    """vfio-pci's module."""
    host = host_with(root, SUNSHINE)
    stream(root)
    faults.inject(root, faults.Fault("load vfio*", nth=0, error="ENOENT"))
    assert "vfio-pci cannot be loaded" in refused(host)
    assert signals(host) == []


def test_a_refusal_after_it_says_what_is_lost(root: str) -> None:
    """The card's driver does not let go."""
    host = host_with(root, "sessions", SUNSHINE)
    desktop(root)
    stream(root)
    faults.inject(root, faults.Fault("write bus/pci/drivers/amdgpu/unbind *", ignored=True))
    line = refused(host, KWIN, PLASMA, STREAM)
    assert line.startswith(f"{GPU}: amdgpu does not let go of it")
    assert f"; ended by then, and not coming back: session 2 of the user 1000, sunshine (pid {STREAM}): " in line


@pytest.mark.parametrize(
    ("temper", "said"),
    [
        (
            {"stuck": True},
            "sunshine (pid 810) does not end: it sleeps in the kernel (state D)",
        ),
        (
            {"ignores": [TERM, KILL]},
            "sunshine (pid 810) does not end, not even by SIGKILL; ended by then, and not coming back: ",
        ),
    ],
)
def test_a_process_that_does_not_end_refuses_the_start(root: str, temper: dict[str, Any], said: str) -> None:
    """It is named."""
    host = host_with(root, SUNSHINE)
    stream(root, **temper)
    line = refused(host)
    assert line.startswith(said)
    assert line.endswith(f": {KERNEL_LOG}")
    assert signals(host) == [(STREAM, TERM), (STREAM, KILL)]


def test_a_process_that_comes_back_is_not_chased(root: str) -> None:
    """Something starts it again: the remedy is another."""
    host = host_with(root, SUNSHINE)
    stream(root, comes_back=1)
    line = refused(host, STREAM)
    assert line.startswith(f"{GPU} is in use again by sunshine (pid 811); ended by then")
    assert line.endswith("not coming back: sunshine (pid 810): something starts it again: name its unit in units, too")
    assert signals(host) == [(STREAM, TERM)]


def test_one_that_comes_back_later_is_not_ended_twice(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers look again, and the same list would end it again, for ever."""
    monkeypatch.setattr("libhook.kinds.holder.ending._Ending._stay_away", lambda _: None)
    host = host_with(root, SUNSHINE)
    stream(root, comes_back=5)
    line = refused(host, STREAM)
    assert line.startswith(f"{GPU} is in use by the host: it is open in sunshine (pid 811")
    assert signals(host) == [(STREAM, TERM)]


@pytest.mark.parametrize(("how", "ended"), [({"stays": True}, ()), ({"leaves": True}, (KWIN, PLASMA))])
def test_a_session_that_stays_refuses_the_start(root: str, how: dict[str, Any], ended: tuple[int, ...]) -> None:
    """It is named, with where to look; also if only a process is left of it that does not have the card open."""
    host = host_with(root, "sessions")
    desktop(root, **how)
    line = refused(host, *ended)
    assert line.startswith("session 2 of the user 1000 does not end; ended by then")
    assert line.endswith(": this says more: loginctl session-status 2")


def test_what_the_users_manager_keeps_refuses_the_start(root: str) -> None:
    """The user lingers: the session is gone, and a part of the desktop is not."""
    host = host_with(root, "sessions")
    desktop(root, lingering=True)
    line = refused(host, KWIN)
    assert line.startswith(f"{GPU} is in use after the session's end by plasmashell (pid {PLASMA})")
    assert line.endswith(
        "; ended by then, and not coming back: session 2 of the user 1000: stop what has it open first"
    )


def test_a_session_that_begins_at_the_end_of_another_refuses_the_start(root: str) -> None:
    """A display manager's greeter, or an automatic login."""
    host = host_with(root, "sessions")
    desktop(root, next="c3", closes=[])  # logind has the card open for the new one
    line = refused(host, KWIN, PLASMA)
    assert line.startswith(f"{GPU} is in use again by ")
    assert "greeter (pid 900)" in line
    assert "; ended by then" in line
    assert line.endswith(": something starts it again: name its unit in units, too")
    assert logind.is_there(root, "c3")


def test_a_user_without_a_graphical_session_refuses_the_start(root: str) -> None:
    """A service of a user who lingers has the card open."""
    host = host_with(root, "sessions")
    stream(root)
    refused(host)


def test_a_logind_that_does_not_answer_refuses_the_start(root: str) -> None:
    """Nobody knows whose session it is."""
    host = host_with(root, "sessions")
    desktop(root)
    faults.inject(root, faults.Fault("loginctl show-user*", nth=0, error="ETIMEDOUT"))
    line = refused(host)
    assert line.startswith("libhook cannot tell which processes have the device open (Connection timed out)")


def test_a_late_arrival_is_seen_before_anything_is_ended(root: str) -> None:
    """It opened the card after the plan was made."""
    host = host_with(root, SUNSHINE)
    stream(root)
    stream(root, OTHER, program="/usr/bin/blender", group="/system.slice/render.service")
    failure = _carried_out(host)
    assert failure.reason == f"{GPU} is in use by blender (pid {OTHER})"
    assert signals(host) == []


def test_another_process_with_that_pid_gets_no_signal(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pid was given away between the look and the signal; or the process runs another program by then."""
    host = host_with(root, SUNSHINE)
    stream(root)
    monkeypatch.setattr("libhook.look.occupants.is_same", lambda *_: False)
    failure = _carried_out(host)
    assert failure.reason == f"sunshine (pid {STREAM}) does not end, not even by SIGKILL"
    assert signals(host) == []


def test_a_device_that_does_not_answer_ends_nothing(root: str) -> None:
    """Its nodes cannot be listed, so nobody knows who has it."""
    host = host_with(root, SUNSHINE)
    stream(root)
    uevent = Path(root, f"sys/bus/pci/devices/{GPU}/drm/card0/uevent")
    uevent.unlink()
    os.mkfifo(uevent)
    hanging.late_at_a_pipe()
    assert _carried_out(host).reason == f"{GPU}: its nodes cannot be listed"
    assert signals(host) == []
    hanging.answer(uevent)


def test_a_signal_that_does_not_return_costs_its_time(root: str) -> None:
    """Nobody waits for it beyond that."""
    host = host_with(root, SUNSHINE)
    stream(root)
    faults.inject(root, faults.Fault("signal *", before=hanging.HANG, ignored=True))
    hanging.late(root)
    assert _carried_out(host).reason.startswith(f"sunshine (pid {STREAM}) does not end")


def test_what_was_ended_is_never_journalled(root: str) -> None:
    """Nothing could be done with it, so an entry that names it is broken."""
    one = End(SUNSHINE, (PciAddress.parse(GPU),))
    assert (one.is_undone, one.summary, one.subject) == (False, "ended", SUNSHINE)
    with pytest.raises(BadInput):
        read(one.to_json())
    work = Work(Host(root, workstation()).machine, None, Deadline.after(60), Config(), WIN11.uuid)  # type: ignore[arg-type] # nothing is kept
    assert list(KIND.way_back(work, None, [one])) == []  # type: ignore[arg-type] # nor read


def _carried_out(host: Host, deadline: Deadline | None = None) -> Failure:
    config = Config(actions={"end": [SUNSHINE]})
    work = Work(host.machine, make_state(host.machine), deadline or Deadline.after(200), config, WIN11.uuid)
    (outcome,) = carry_out(work, [End(SUNSHINE, (PciAddress.parse(GPU),))])
    assert outcome.failure
    return outcome.failure


def test_a_use_that_is_no_process_refuses_before_anything_is_ended(root: str) -> None:
    """A disk that a listed program has open is also mounted."""
    host = host_with(root, "/usr/sbin/smartd")
    processes.add(root, STREAM, "smartd", ["/dev/nvme0n1"])
    logind.place(root, STREAM, "/usr/sbin/smartd", "/system.slice/smartd.service")
    os.makedirs(f"{root}/simulation/claimed")
    Path(root, "simulation/claimed/nvme0n1").write_text("EBUSY")
    outcome = host.event(guest(DISK), "prepare")
    assert (outcome.code, signals(host), host.driver(DISK)) == (1, [], "nvme")
    Path(root, "simulation/claimed/nvme0n1").unlink()
    host.begin(guest(DISK))
    assert (signals(host), host.driver(DISK)) == ([(STREAM, TERM)], "vfio-pci")
