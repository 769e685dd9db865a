# SPDX-License-Identifier: LGPL-2.1-or-later
"""A tree of old scripts on a host with a real systemd: run as it is by ``legacy``."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import Guest, libhook, pci
from host import GPU, NIC, driver_of, wait_for
from service import systemctl
from whole import Whole, expect, is_loaded, run_quietly, states, whole_host

NAME, UNIT = "lab-tree", "lab-tree.service"
FOLDER = Path("/etc/libvirt/old-hooks")
COMMAND, NOTES = Path("/usr/local/bin/lab-screen"), Path("/run/lab-screen")
UNIT_FILE = Path("/run/systemd/system") / UNIT
SWAPPINESS, KSM = Path("/proc/sys/vm/swappiness"), Path("/sys/kernel/mm/ksm/sleep_millisecs")
SCRIPTS = {
    "qemu": """#!/bin/bash
folder="$(dirname "$0")/qemu.d/$1/$2/$3"
[ -d "$folder" ] || exit 0
for script in "$folder"/*; do
    [ ! -x "$script" ] || "$script" "$@" || exit $?
done
""",
    "kvm.conf": f'DEVICES="{NIC} {GPU}"\n',
    f"qemu.d/{NAME}/prepare/begin/start.sh": f"""#!/bin/bash
source "$(dirname "$0")/../../../../kvm.conf"
systemctl stop {UNIT}
sleep 1
{COMMAND} off
sysctl -w vm.swappiness=17
echo 21 > {KSM}
for console in /sys/class/vtconsole/*; do echo 0 > "$console/bind"; done
modprobe -r bochs
modprobe vfio-pci
for device in $DEVICES; do
    echo vfio-pci > /sys/bus/pci/devices/$device/driver_override
    [ ! -e /sys/bus/pci/devices/$device/driver ] || echo $device > /sys/bus/pci/devices/$device/driver/unbind
    echo $device > /sys/bus/pci/drivers_probe
done
""",
    f"qemu.d/{NAME}/release/end/revert.sh": f"""#!/bin/bash
source "$(dirname "$0")/../../../../kvm.conf"
for device in $DEVICES; do
    echo > /sys/bus/pci/devices/$device/driver_override
    echo $device > /sys/bus/pci/drivers/vfio-pci/unbind
    echo $device > /sys/bus/pci/drivers_probe
done
modprobe bochs
for console in /sys/class/vtconsole/*; do echo 1 > "$console/bind"; done
echo {KSM.read_text().strip()} > {KSM}
sysctl -w vm.swappiness={SWAPPINESS.read_text().strip()}
{COMMAND} on
systemctl start {UNIT}
""",
}
"""A tree of the hook helper of VFIO-Tools. At the end it writes the values of a host that nobody has changed."""


@pytest.fixture(autouse=True)
def tree() -> Iterator[None]:
    """The scripts, where they were moved to; and what they act on."""
    for name, text in SCRIPTS.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    COMMAND.write_text(f'#!/bin/sh\necho "$1" >>{NOTES}\n')
    COMMAND.chmod(0o755)
    UNIT_FILE.write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    systemctl("start", UNIT, "virtlogd")  # the latter comes with the first guest, and stays
    run_quietly("modprobe", "vfio-pci")
    run_quietly("systemctl", "reset-failed")
    yield
    run_quietly("systemctl", "stop", UNIT)
    UNIT_FILE.unlink()
    shutil.rmtree(FOLDER)
    COMMAND.unlink()
    NOTES.unlink(missing_ok=True)


def _now() -> Whole:
    return whole_host([SWAPPINESS, KSM])


def _expect_a_life(one: Guest) -> None:
    """All that the scripts do is done while it runs, and then the host is as before."""
    before = _now()
    one.start()
    assert [driver_of(address) for address in (NIC, GPU)] == ["vfio-pci"] * 2
    assert (states(UNIT), is_loaded("bochs")) == (["inactive"], False)
    assert (SWAPPINESS.read_text(), KSM.read_text(), NOTES.read_text()) == ("17\n", "21\n", "off\n")
    one.destroy()
    one.wait_until_gone()
    wait_for("the undo", lambda: NOTES.read_text() == "off\non\n")
    expect(before, _now)
    assert libhook("status") == "nothing is held\n"


@pytest.mark.rest
def test_as_it_is(guest: MakeGuest, configure: Configure) -> None:
    """By its dispatcher, which libhook runs with a deadline. It binds the devices itself."""
    configure(f'[legacy]\npath = "{FOLDER}/qemu"\n')
    _expect_a_life(guest(pci(NIC), pci(GPU), name=NAME))
