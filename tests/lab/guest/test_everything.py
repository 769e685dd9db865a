# SPDX-License-Identifier: LGPL-2.1-or-later
"""One guest whose settings ask for all that libhook can do, on a host with a real systemd: all of it comes, or none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import Guest, libhook, pci
from host import GPU, NIC, NVME, driver_of, wait_for
from service import systemctl
from uses import disk_of
from whole import Whole, expect, is_loaded, run_quietly, states, whole_host

DEVICES = (NIC, GPU, NVME)
UNIT = "lab-everything.service"
FILE, FSTAB = Path("/run/systemd/system") / UNIT, Path("/etc/fstab")
DATA, DATA_UNIT = Path("/srv/everything"), "srv-everything.mount"
SCRIPT, NOTES = Path("/usr/local/bin/lab-everything"), Path("/run/lab-everything")
SWAPPINESS, KSM = Path("/proc/sys/vm/swappiness"), Path("/sys/kernel/mm/ksm/sleep_millisecs")
TEXT = f"""#!/bin/sh
is() {{ if test "$@"; then echo yes; else echo no; fi; }}
echo "$1 nic=$(basename "$(readlink /sys/bus/pci/devices/{NIC}/driver)") module=$(is -e /sys/module/bochs/initstate)" \
    "unit=$(is -d /sys/fs/cgroup/system.slice/{UNIT}) data=$(mountpoint -q {DATA} && echo yes || echo no)" \
    "value=$(cat {SWAPPINESS})" >>{NOTES}
[ "$2" != fail ] || exit 7
"""
MERE = {
    "nic": "e1000e",
    "module": "yes",
    "unit": "yes",
    "data": "yes",
    "value": SWAPPINESS.read_text().strip(),
}
"""What a command sees at `prepare`: nothing comes before it."""
ALL = {"nic": "vfio-pci", "module": "no", "unit": "no", "data": "no", "value": "17"}
"""And at `start`."""


@pytest.fixture(autouse=True, scope="module")
def place() -> Iterator[None]:
    """A unit that is slow to stop, a mount of fstab, and what notes who was run, and what it saw."""
    before = FSTAB.read_text() if FSTAB.exists() else ""
    SCRIPT.write_text(TEXT)
    SCRIPT.chmod(0o755)
    stop = f"ExecStop={SCRIPT} unit-stops\nExecStop=/bin/sleep 2\n"
    FILE.write_text(f"[Service]\nExecStartPre={SCRIPT} unit-starts\nExecStart=/bin/sleep 907\n{stop}")
    DATA.mkdir()
    FSTAB.write_text(f"{before}\n{disk_of(NVME)} {DATA} auto nofail 0 0\n")
    systemctl("daemon-reload")  # of fstab it makes units
    # The first guest's start has the latter two come, and they stay.
    systemctl("start", UNIT, DATA_UNIT, "virtlogd")
    run_quietly("modprobe", "vfio-pci")
    yield
    run_quietly("systemctl", "stop", UNIT)
    run_quietly("umount", str(DATA))
    FSTAB.write_text(before)
    FILE.unlink()
    systemctl("daemon-reload")
    DATA.rmdir()
    SCRIPT.unlink()
    NOTES.unlink()


@pytest.fixture(autouse=True)
def notes() -> None:
    """Nobody was run yet."""
    NOTES.write_text("")


def _configured(configure: Configure, one: Guest, fails: str = "") -> Whole:
    """The settings, in which one command fails. The host before the guest's start."""
    table = f'domains."{one.name}"'
    text = f'[{table}]\nmodules = ["device:display"]\n'
    text += (
        f'[{table}.units]\n"{UNIT}" = "down"\n"{DATA}" = "down"\n[{table}.values]\n"vm.swappiness" = 17\n"{KSM}" = 21\n'
    )
    for name, at in (("first", "prepare"), ("second", "prepare"), ("third", "prepare"), ("last", "start")):
        command = f'["{SCRIPT}", "{name}", "{"fail" if name == fails else ""}"]'
        text += f'[{table}.run.{name}]\nat = "{at}"\ncommand = {command}\nundo = ["{SCRIPT}", "undo-{name}"]\n'
    configure(text)
    return _now()


def _now() -> Whole:
    return whole_host([SWAPPINESS, KSM])


def _notes() -> list[tuple[str, dict[str, str]]]:
    """Who was run, and what was so by then. The unit's start is waited for by nobody, so it may come anywhere."""
    found = [line.split() for line in NOTES.read_text().splitlines()]
    return [(word, dict(field.split("=") for field in fields)) for word, *fields in found if word != "unit-starts"]


def _without_unit(fields: dict[str, str]) -> dict[str, str]:
    """And without the mount, which comes back as the unit does."""
    return {name: value for name, value in fields.items() if name not in ("unit", "data")}


@pytest.mark.rest
def test_a_command_that_fails_in_the_middle_undoes_what_was_done(guest: MakeGuest, configure: Configure) -> None:
    """It comes before all that costs more: the unit and the mount were not touched."""
    one = guest(*map(pci, DEVICES))
    before = _configured(configure, one, fails="second")
    said = one.start_refused()
    assert "the command second has ended with status 7" in said
    assert f"journalctl -u libhook-run-{one.uuid}" in said
    expect(before, _now)
    # An undo must be right, too, where its command ran half or not at all.
    assert _notes() == [(word, MERE) for word in ("first", "second", "undo-third", "undo-second", "undo-first")]
    assert libhook("status") == "nothing is held\n"


def test_the_last_that_fails_undoes_all(guest: MakeGuest, configure: Configure) -> None:
    """At `start`, when QEMU is there."""
    one = guest(*map(pci, DEVICES))
    before = _configured(configure, one, fails="last")
    said = one.start_refused()
    assert "the command last has ended with status 7" in said
    expect(before, _now)
    _expect_order()
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
def test_a_guest_has_all_that_it_asks_for_and_then_the_host_has(guest: MakeGuest, configure: Configure) -> None:
    """The same guest with commands that work."""
    one = guest(*map(pci, DEVICES))
    before = _configured(configure, one)
    one.start()
    assert [driver_of(address) for address in DEVICES] == ["vfio-pci"] * 3
    assert states(UNIT, DATA_UNIT) == ["inactive", "inactive"]
    assert (is_loaded("bochs"), DATA.is_mount()) == (False, False)
    assert (SWAPPINESS.read_text(), KSM.read_text()) == ("17\n", "21\n")
    one.destroy()
    one.wait_until_gone()
    expect(before, _now)
    _expect_order()
    assert libhook("status") == "nothing is held\n"


def _expect_order() -> None:
    """Each in its place on the way there, and in reverse on the way back."""
    wait_for("the unit to start", lambda: "unit-starts" in NOTES.read_text())
    *there, (stops, seen), last, undo_last, third, second, first = _notes()
    assert there == [(word, MERE) for word in ("first", "second", "third")]
    assert (stops, _without_unit(seen)) == ("unit-stops", {**_without_unit(MERE), "value": "17"})
    assert (last, undo_last) == (("last", ALL), ("undo-last", ALL))
    undone = [(word, _without_unit(fields)) for word, fields in (third, second, first)]
    assert undone == [(f"undo-{word}", _without_unit(MERE)) for word in ("third", "second", "first")]
    starts = next(line for line in NOTES.read_text().splitlines() if line.startswith("unit-starts"))
    assert "nic=e1000e module=yes" in starts
