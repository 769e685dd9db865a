# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host soft-reboots and shuts down while a guest has units of it down and up, by a real systemd.

The lab's own systemd cannot do that while tests run. So another one is process 1 of namespaces of its own.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Configure, MakeGuest
from guests import libvirts_own_xml, pci
from host import NIC

HERE = Path(__file__).parent
FOLDER = Path("/var/lib/lab-own")
"""Not in /run or /tmp: the other host has its own, or unmounts it at its end."""
SERVICE = """[Unit]
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
{more}
[Service]
{text}
"""
STARTS = f'ExecStart=/bin/sh -c "echo %N >>{FOLDER}/starts; exec sleep infinity"'
HYPERVISOR = f"""ExecStart=/bin/sh {HERE}/own-hypervisor.sh {FOLDER} begin
ExecStop=/bin/sh {HERE}/own-hypervisor.sh {FOLDER} end
"""
JOURNAL = """[Unit]
DefaultDependencies=no
Conflicts=soft-reboot.target
Before=soft-reboot.target
[Service]
ExecStart=/usr/lib/systemd/systemd-journald
"""
"""Goes with a soft-reboot, and last of all at a shutdown."""
UNITS = {
    "desk.service": SERVICE.format(more="", text=STARTS),
    "extra.service": SERVICE.format(more="", text=STARTS),
    "up.service": SERVICE.format(more="", text=STARTS),
    "hypervisor.service": SERVICE.format(
        more="After=desk.service libhook-recover.service journal.service", text=HYPERVISOR
    ),
    "journal.service": JOURNAL,
    "default.target": "[Unit]\nDefaultDependencies=no\n"
    "Wants=desk.service journal.service libhook-recover.service hypervisor.service\n",
    # What a host has at its boot, and this one has not.
    "libhook-recover.service.d/lab.conf": "[Unit]\nDefaultDependencies=no\n",
}
SOFT_REBOOTS = int(subprocess.check_output(["systemctl", "--version"], text=True).split()[1].partition(".")[0]) >= 254
"""Whether systemd can. Debian 12 has 252."""
SETTINGS = '[units]\n"desk.service" = "down"\n"extra.service" = "down"\n"up.service" = "up"\n'


@pytest.fixture(autouse=True)
def folder() -> Iterator[None]:
    """With the units of the other host."""
    for name, text in UNITS.items():
        file = FOLDER / "units" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (FOLDER / "address").write_text(NIC)
    yield
    subprocess.run(["rm", "-r", FOLDER], check=True, timeout=600)


def _read(name: str) -> list[str]:
    path = FOLDER / name
    return path.read_text().splitlines() if path.exists() else []


def _life_of_another_host() -> None:
    """From its boot to its end."""
    namespaces = ["--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--uts", "--ipc"]
    unit = ["--unit=lab-own", "--wait", "-q", "--collect", "-p", "Delegate=yes", "-p", "RuntimeMaxSec=500"]
    inside = ["/bin/sh", str(HERE / "own-host.sh"), str(FOLDER / "units")]
    subprocess.run(["systemd-run", *unit, "--", "unshare", *namespaces, *inside], check=False, timeout=600)


def test_at_a_soft_reboot_and_at_the_hosts_end_no_unit_is_started_again(guest: MakeGuest, configure: Configure) -> None:
    """After a soft-reboot what the boot has started stays, and nothing else is started: not even what was on before.

    While the host shuts down, `release` brings the device home; systemd refuses the unit, and that is no error.
    """
    one = guest(pci(NIC), name="own")
    (FOLDER / "xml").write_text(libvirts_own_xml(one))
    configure(SETTINGS)
    _life_of_another_host()
    taken = "desk=inactive extra=inactive up=active nic=vfio-pci"
    seen = {line.partition(": ")[0]: line.partition(": ")[2] for line in _read("notes")}
    print(*_read("notes"), *_read("said"), *_read("log"), sep="\n")
    assert list(seen) == [
        *["0 prepare answered 0"] * SOFT_REBOOTS,
        *("1 began again", "1 prepare answered 0", "1 is stopping", "1 release answered 0"),
    ]
    assert seen.get("0 prepare answered 0", taken).startswith(taken)
    assert seen["1 began again"] == "desk=active extra=inactive up=inactive nic=e1000e kept=0"
    assert seen["1 prepare answered 0"].startswith(taken)
    assert seen["1 release answered 0"] == "desk=inactive extra=inactive up=inactive nic=e1000e kept=0"
    assert _read("starts") == [*("desk", "extra", "up") * SOFT_REBOOTS, "desk", "up"]
    assert "destructive" in " ".join(_read("refused")), "the host was not at its end"
    log = _read("log")
    assert [line for line in log if "the host shuts down" in line] != []
    assert [line for line in log if "not given back" in line or "does not start" in line] == []
