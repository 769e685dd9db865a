# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests whose settings ask several things of a host with a real systemd, and a hook that is killed in the middle."""

import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from amounts import SEED
from calls import at_work, call, command, dump_of_hooks
from conftest import Configure, MakeGuest
from guests import Guest, Refused, libvirts_own_xml, pci, usb
from host import NIC, STATE, USB_PEN, driver_of, override_of, settled, wait_for
from killing import cut
from service import systemctl

pytestmark = pytest.mark.race
_UNIT = "lab-shared.service"
_FILE = Path("/run/systemd/system") / _UNIT
_SWAPPINESS = Path("/proc/sys/vm/swappiness")
_MARK = Path("/run/lab-mark")
_STARTS = Path("/run/lab-starts")
"""Has a line for each start of the unit."""
_PROGRAM = Path("/usr/local/bin/lab-mark")
SHARED = f'[units]\n"{_UNIT}" = "down"\n[values]\n"vm.swappiness" = 17\n'
RUN = f"""
[run.mark]
command = ["{_PROGRAM}", "touch"]
undo = ["{_PROGRAM}", "rm"]
[run.show]
command = ["/bin/sleep", "902"]
background = true
"""
MOMENTS, MOMENTS_OF_RELEASE = 8, 3
_THREE = ((0, 2, 1), (2, 0, 1))


@pytest.fixture(autouse=True)
def unit() -> Iterator[None]:
    """It runs; and a program that leaves a mark."""
    _FILE.write_text(f"[Service]\nExecStartPre=/bin/sh -c 'echo >>{_STARTS}'\nExecStart=/bin/sleep infinity\n")
    _PROGRAM.write_text(f"#!/bin/sh\n[ $1 = rm ] && exec rm -f {_MARK}\nsleep 0.5\nexec touch {_MARK}\n")
    _PROGRAM.chmod(0o755)
    systemctl("start", _UNIT)
    yield
    systemctl("stop", _UNIT)
    _FILE.unlink()
    _PROGRAM.unlink()
    _STARTS.unlink()
    _MARK.unlink(missing_ok=True)
    subprocess.run(["pkill", "-f", "sleep 902"], check=False)


def _now() -> dict[str, str]:
    """What guests change, and what is kept of them, but where a device was and who is served."""
    kept = (str(path.relative_to(STATE)) for path in STATE.rglob("*") if not path.is_dir())
    return {
        _UNIT: systemctl("show", "--value", "--property", "ActiveState", _UNIT),
        "swappiness": _SWAPPINESS.read_text().strip(),
        "driver": f"{driver_of(NIC)}, {override_of(NIC)}",
        "kept": " ".join(sorted(name for name in kept if not name.startswith(("homes/", "served")))),
        "commands": systemctl("list-units", "--plain", "--no-legend", "libhook-run-*", "libhook-undo-*"),
        "processes": subprocess.run(["pgrep", "-af", "sleep 902"], capture_output=True, text=True, check=False).stdout,
        "mark": str(_MARK.exists()),
    }


def _expect(before: dict[str, str]) -> None:
    """The host is as before; a failure says what is not."""
    assert settled(lambda: _differences(before)) == []


def _differences(before: dict[str, str]) -> list[str]:
    now = _now()
    return [f"{name}: {was!r}, now {now[name]!r}" for name, was in before.items() if now[name] != was]


def _chance() -> random.Random:
    """The moments of the run's seed."""
    return random.Random(SEED)  # noqa: S311


def _claimants() -> set[str]:
    """The guests that claim something."""
    claims = [json.loads(path.read_text()) for path in (STATE / "shared").glob("*.json")]
    return {uuid for claim in claims for uuid in claim["claims"]}


@pytest.mark.parametrize("ends", [(0, 1), *(pytest.param(ends, marks=pytest.mark.rest) for ends in _THREE)])
def test_guests_share_what_they_ask_for(guest: MakeGuest, configure: Configure, ends: tuple[int, ...]) -> None:
    """One ends by SIGKILL, libvirtd is restarted, the others end in any order: with the last all is as before."""
    killed, *others = ends
    configure(SHARED)
    before = _now()
    guests = [guest(*devices).start() for devices in ([pci(NIC)], [usb(USB_PEN)], [])[: len(ends)]]
    meanwhile = {_UNIT: "inactive", "swappiness": "17"}
    assert _now().items() >= meanwhile.items()
    guests[killed].kill_qemu()
    guests[killed].wait_until_gone()
    assert _now().items() >= meanwhile.items()
    systemctl("restart", "libvirtd")
    wait_for("libvirtd to know the guests again", lambda: all(guests[other].running() for other in others))
    for one in (guests[other] for other in others):
        assert _now().items() >= meanwhile.items()
        with suppress(Refused):  # libvirtd may be connecting to the QEMU that it ends, and see only that it is gone
            one.destroy()
        one.wait_until_gone()
    _expect(before)


@pytest.mark.rest
def test_prepare_killed_at_any_moment(guest: MakeGuest, configure: Configure) -> None:
    """`release failed` or `libhook recover` undoes all that was begun, also what the hook's child begins then."""
    chance = _chance()
    configure(SHARED + RUN)
    one = guest(pci(NIC))
    one.xml = libvirts_own_xml(one)
    before = _now()
    took = call(one, "prepare").seconds
    assert _now()["mark"] == "True"
    assert call(one, "release", "failed").code == 0
    _expect(before)
    killed = 0
    for number in range(MOMENTS):
        moment = (number + chance.random()) / MOMENTS * took
        if cut(one, "prepare", "-", moment):
            killed += 1
        else:  # it was through: this machine is faster than it was
            took = moment
        if number % 2 == 0 or "is starting the guest" in command("recover").said:
            assert call(one, "release", "failed").code == 0
        settled(lambda: _differences(before), 20)
        answer = command("recover")
        left = settled(lambda: _differences(before))
        assert not left, f"killed after {moment:.3f} of {took:.3f} s: {left} {answer} {dump_of_hooks()}"
    assert killed > MOMENTS / 2


@pytest.mark.rest
def test_release_killed_at_any_moment_beside_a_guest_that_lives(guest: MakeGuest, configure: Configure) -> None:
    """That one keeps what both need, all the time. `libhook recover` gives back the rest, before its end and after."""
    chance = _chance()
    one, other = guest(pci(NIC), name="ends"), guest(usb(USB_PEN), name="lives")
    one.xml = libvirts_own_xml(one)
    configure(SHARED + RUN.replace("[run.", "[domains.ends.run."))
    before = _now()
    other.start()
    alone = _now()
    assert alone.items() >= {_UNIT: "inactive", "swappiness": "17"}.items()
    _lives(one)
    took = call(one, "release", "shutdown").seconds
    killed = 0
    for number in range(MOMENTS_OF_RELEASE):
        _lives(one)
        assert _MARK.exists()
        moment = (number + chance.random()) / MOMENTS_OF_RELEASE * took
        print(f"killed after {moment:.3f} of {took:.3f} s")
        if cut(one, "release", "shutdown", moment):
            killed += 1
        else:  # it was through: this machine is faster than it was
            took = moment
        assert (_SWAPPINESS.read_text(), len(_STARTS.read_text())) == ("17\n", 1)
        if number == MOMENTS_OF_RELEASE - 1:
            other.destroy()
            other.wait_until_gone()
        wait_for("the end of what was killed", lambda: not at_work())
        assert command("recover").code == 0
        if other.running():
            _expect(alone)
            assert (_claimants(), len(_STARTS.read_text())) == ({other.uuid}, 1)
    _expect(before)
    wait_for("the unit's start", lambda: len(_STARTS.read_text()) == 2)
    assert killed > MOMENTS_OF_RELEASE / 2


def _lives(one: Guest) -> None:
    """As libhook sees it; it has no QEMU."""
    for operation in ("prepare", "start", "started"):
        assert call(one, operation).code == 0
    one.wait_for_hook()
