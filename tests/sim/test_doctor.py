# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook doctor``: each thing that keeps libhook from working is found and named, with what helps against it."""

import argparse
import json
import os
from pathlib import Path
from unittest import mock

import pytest
from cases import DISK, NIC
from command import libhook
from launcher import put
from scenario import LAUNCHER, Host, adopt_orphans, guest, reap

from libhook.children.child import Deadline
from libhook.command import commands, installation
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.look.linux import LinuxKernel
from libhook.simulation import faults, processes
from libhook.simulation import systemd as units
from libhook.simulation.hosts import nic
from libhook.story.session import make_state

HOOKS = "etc/libvirt/hooks"
WATCH = "libhook-watch.service"
BTIME = 1_700_000_000
DRY = "libhook hands nothing over to a guest for which dry_run is true"


def installed(root: str, name: str = "qemu", *, lib: Path = LAUNCHER.parents[1]) -> Path:
    """Our hook, as install.sh puts it there."""
    return put(Path(root, HOOKS, name), lib)


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A host on which everything is as it should be, but that nothing is held yet."""
    host = Host(root, nic())
    installed(root)
    Path(root, "proc/stat").write_text(f"cpu  1 2 3\nbtime {BTIME}\n")
    processes.add(root, host.libvirt.pid, "libvirtd", started=1 << 50)
    for unit in (WATCH, "libhook-recover.service"):
        units.add(root, unit)
    return host


def examined(host: Host) -> list[str]:
    """What it says that is not ok; its exit code says whether something fails."""
    done = libhook(host, "doctor")
    lines = done.out.splitlines()
    failed = [line for line in lines if line.startswith("fail")]
    assert done.code == bool(failed)
    assert done.err.startswith("libhook does not work here: ") == bool(failed)
    assert done.err.count("\n") == done.code
    assert lines
    return [line for line in lines if not line.startswith("ok  ")]


def test_where_all_is_well_it_says_so(host: Host) -> None:
    """One line for each thing, exit code 0, and the host is as it was. The hook that it calls logs nothing."""
    adopt_orphans()  # a child writes the log, which may do so after the hook's end
    before = host.everything()
    done = libhook(host, "doctor")
    assert done.out.splitlines() == [
        "ok    /etc/libvirt/hooks/qemu answers",
        f"ok    libvirtd (pid {host.libvirt.pid}) runs",
        "ok    the IOMMU is on; number of groups: 1",
        "ok    the kernel has vfio-pci",
        "ok    the configuration has the defaults",
        "ok    auditing is on, and auditd runs",
        "ok    libhook holds no device for a guest",
        "ok    libhook-watch.service runs",
    ]
    assert (done.code, done.err) == (0, "")
    assert host.everything() == before
    assert (reap(60), Path(host.root, "var/log/libhook.jsonl").exists()) == (True, False)
    assert json.loads(libhook(host, "doctor", "--json").out)["findings"][0] == {
        "level": "ok",
        "what": "/etc/libvirt/hooks/qemu answers",
        "remedy": "",
    }


def test_it_is_root_s() -> None:
    """Anybody else's hook answers nothing, as a session daemon's: that would look like a broken one."""
    with (
        mock.patch("os.geteuid", return_value=1000),
        pytest.raises(LibhookError, match="only root can run the hook") as refused,
    ):
        commands.doctor(Machine("", LinuxKernel()), argparse.Namespace(json=False))
    assert refused.value.hint == "run it as root"


def test_no_hook(host: Host) -> None:
    """Not installed, or only another's hook is there, which is named."""
    Path(host.root, HOOKS, "qemu").write_text("#!/bin/sh\n")
    assert examined(host) == [
        "note  libvirtd also runs /etc/libvirt/hooks/qemu: libhook does not know what it does",
        "fail  libhook's hook is not in /etc/libvirt/hooks: run install.sh",
    ]
    Path(host.root, HOOKS, "qemu").unlink()
    assert examined(host) == ["fail  libhook's hook is not in /etc/libvirt/hooks: run install.sh"]


def test_beside_others(host: Host) -> None:
    """In qemu.d, behind somebody's; what is no file, and what libvirtd would not run, is not mentioned."""
    Path(host.root, HOOKS, "qemu").write_text("#!/bin/sh\n")
    installed(host.root, "qemu.d/libhook")
    Path(host.root, HOOKS, "qemu.d/old").write_text("#!/bin/sh\n")
    Path(host.root, HOOKS, "qemu.d/folder").mkdir()
    assert examined(host) == ["note  libvirtd also runs /etc/libvirt/hooks/qemu: libhook does not know what it does"]
    assert "ok    /etc/libvirt/hooks/qemu.d/libhook answers" in libhook(host, "doctor").out


def test_in_the_folder_that_was_remembered(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """install.sh put it there, for a libvirt that was built so; a clone beside any such file goes by none."""
    Path(host.root, HOOKS).rename(Path(host.root, "srv-hooks"))
    memory = Path(host.root, "lib/hook-dir")
    memory.write_text("/srv-hooks\n")
    assert "fail  libhook's hook is not in /etc/libvirt/hooks: run install.sh" in examined(host)
    monkeypatch.setattr(installation, "_VERSION", "/lib/versions/1")
    (line,) = examined(host)
    assert line == (
        "note  the hook is in /srv-hooks: a libvirt that was not built to look there never runs it:"
        " install.sh --hook-dir /etc/libvirt/hooks brings it back"
    )
    assert "ok    /srv-hooks/qemu answers" in libhook(host, "doctor").out


def test_twice(host: Host) -> None:
    """Each event would be handled twice."""
    installed(host.root, "qemu.d/libhook")
    (line,) = examined(host)
    assert line == (
        "fail  libhook would run twice, as /etc/libvirt/hooks/qemu and /etc/libvirt/hooks/qemu.d/libhook:"
        " rm /etc/libvirt/hooks/qemu.d/libhook"
    )


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o644, "is not executable, so libvirtd skips it: chmod 755 /etc/libvirt/hooks/qemu"),
        (
            0o775,
            (
                "users other than root may write to /etc/libvirt/hooks/qemu, which root runs: "
                "check what is in it, then run: "
            ),
        ),
    ],
)
def test_the_mode_of_the_hook(host: Host, mode: int, said: str) -> None:
    """The most common reason that nothing happens; and one that root would run what anybody wrote."""
    Path(host.root, HOOKS, "qemu").chmod(mode)
    (line,) = examined(host)
    assert said in line


def test_a_hook_without_its_package(host: Host, tmp_path: Path) -> None:
    """Half an installation: what the guest's start would say is said here."""
    installed(host.root, lib=tmp_path)
    (line,) = examined(host)
    assert line.startswith(
        "fail  /etc/libvirt/hooks/qemu does not work: libhook itself does not run (python3 ended with status 1,"
        " ModuleNotFoundError: No module named 'libhook')"
    )
    assert line.endswith(": run install.sh again")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/nowhere/sh\n", "it cannot be run: No such file or directory"),
        ("#!/bin/sh\nexit 0\n", "it says nothing, and ends with status 0"),
        ("#!/bin/sh\nexec sleep 600\n", "it does not answer within 0.2 s"),
    ],
)
def test_a_hook_that_was_changed(host: Host, text: str, said: str) -> None:
    """It is called, so whatever keeps it from its answer is seen; and it is not waited for for ever."""
    Path(host.root, HOOKS, "qemu").write_text(text)
    assert installation.call(host.machine, "/etc/libvirt/hooks/qemu", 0.2 if "sleep" in text else 60) == said


def test_a_libvirtd_that_may_not_know_the_hook(host: Host) -> None:
    """It looks for hooks when it begins; where nothing tells when it did, nothing is claimed."""
    processes.add(host.root, host.libvirt.pid, "libvirtd", started=100)
    (line,) = examined(host)
    assert line == (
        f"note  libvirtd (pid {host.libvirt.pid}) started before /etc/libvirt/hooks/qemu was installed:"
        " unless install.sh has told it since, run: systemctl reload libvirtd"
    )
    booted = Path(host.root, "run/systemd/system")
    booted.rmdir()
    assert examined(host)[0].endswith(f"since, run: kill -HUP {host.libvirt.pid}")
    booted.mkdir()
    Path(host.root, "proc/stat").write_text("cpu  1 2 3\n")
    assert examined(host) == []
    Path(host.root, "proc/stat").unlink()
    assert examined(host) == []
    processes.end(host.root, host.libvirt.pid)
    assert examined(host) == ["note  neither libvirtd nor virtqemud runs now: it finds the hook when it starts"]
    hook = Path(host.root, HOOKS, "qemu").rename(Path(host.root, "qemu"))
    assert "note  neither libvirtd nor virtqemud runs now" in examined(host)
    hook.rename(Path(host.root, HOOKS, "qemu"))
    processes.add(host.root, 9999, "virtqemud", started=100)
    Path(host.root, "proc/stat").write_text(f"btime {BTIME}\n")
    (line,) = examined(host)
    assert line.startswith("note  virtqemud (pid 9999) started before ")
    assert line.endswith("systemctl reload virtqemud")
    processes.add(host.root, host.libvirt.pid, "libvirtd")
    assert examined(host) == []


def test_whether_somebody_watches(host: Host) -> None:
    """With what the watch starts. Without systemd it may be anybody's; where that does not answer, nothing is said."""
    missing = "note  no libhook watch runs, so what others plug in and out is recorded by libvirt alone: to have "
    enable = f"systemctl enable --now {WATCH}"
    units.change(host.root, "libhook-recover.service", load="not-found")
    (line,) = examined(host)
    assert line.startswith("note  libhook-watch.service runs, but systemd does not have libhook-recover.service")
    assert line.endswith(": run install.sh again")
    for load, how in (
        ("loaded", f"run: {enable}"),
        ("masked", f"run: systemctl unmask {WATCH} && {enable}"),
        ("not-found", f"run install.sh again, then run: {enable}"),
    ):
        units.change(host.root, WATCH, active="inactive", load=load)
        assert examined(host) == [f"{missing}libhook record it, too, {how}"]
    booted = Path(host.root, "run/systemd/system")
    booted.rmdir()
    assert examined(host) == [f"{missing}libhook record it, too, have your init run: libhook watch"]
    with make_state(host.machine).locked(["watch"], Deadline.after(60)):
        for _ in range(2):
            assert (examined(host), "ok    libhook watch runs" in libhook(host, "doctor").out) == ([], True)
            booted.mkdir(exist_ok=True)
    faults.inject(host.root, faults.Fault("systemctl show*", nth=0, error="ECONNREFUSED"))
    assert examined(host) == []


def test_no_iommu_and_no_vfio(root: str) -> None:
    """What every hand-over needs of the kernel, the module loaded already or built in or neither."""
    host = Host(root, nic()._replace(iommu=False, devices=(nic().devices[0]._replace(group=None),)))
    installed(root)
    modules = Path(root, "lib/modules", os.uname().release)
    lines = examined(host)
    (line,) = (line for line in lines if "IOMMU" in line)
    assert line.startswith("fail  the IOMMU is off: turn it on in the firmware (VT-d, AMD-Vi), on Intel ")
    assert "ok    the kernel has vfio-pci" in libhook(host, "doctor").out
    (modules / "modules.alias").unlink()
    assert any(line.startswith("fail  the running kernel has no vfio-pci: install ") for line in examined(host))
    Path(root, "sys/bus/pci/drivers/vfio-pci").mkdir(exist_ok=True)
    assert "ok    the kernel has vfio-pci" in libhook(host, "doctor").out


def test_the_configuration(host: Host) -> None:
    """A key that does not exist, also in a guest's section; what else is wrong is said nevertheless."""
    Path(host.root, "simulation/trail").write_text(json.dumps({"enabled": False}))
    host.configure('[domains."win11"]\nsiblngs = "bind"\n')
    config, trail = examined(host)
    assert 'unknown key domains."win11".siblngs' in config
    assert trail.startswith("note  the audit trail is not written: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("siblings = 'refuse'\n[domains.a]\nwrite_deadline = 30\n", ["ok    the configuration has the defaults"]),
        ("[domains.a]\nwrite_deadline = 31\n", ["ok    the configuration can be read"]),
        (
            "preflight.usb = 'warn'\n[domains.a]\nsiblings = 'bind'\npreflight.usb = 'refuse'\n",
            [
                "ok    the configuration can be read",
                (
                    "note  the configuration allows what libhook refuses by default: "
                    'preflight.usb = "warn", domains."a".siblings = "bind"'
                ),
            ],
        ),
        (
            "[domains.a]\ndry_run = true\n",
            [
                "ok    the configuration can be read",
                f'note  the configuration has domains."a".dry_run = true: {DRY}',
            ],
        ),
        (
            "dry_run = true\n[domains.'*']\ndry_run = false\n",
            [
                "ok    the configuration can be read",
                f'note  the configuration has dry_run = true, domains."*".dry_run = false: {DRY}',
            ],
        ),
    ],
)
def test_what_a_section_says_is_said_too(host: Host, text: str, said: list[str]) -> None:
    """Nothing is as the defaults where it differs for one guest only; who lifts a refusal is named."""
    host.configure(text)
    lines = libhook(host, "doctor").out.splitlines()
    assert [line for line in lines if "the configuration" in line] == said


def test_the_audit_trail(host: Host) -> None:
    """Off: only worth a note, unless the configuration requires it, be it for one guest."""
    Path(host.root, "simulation/trail").write_text(json.dumps({"enabled": False}))
    for text, level in (
        ("", "note"),
        ("audit.required = true\n", "fail"),
        ("[domains.win11]\naudit.required = true\n", "fail"),
        ("[domains.win11]\naudit.required = false\n", "note"),
    ):
        host.configure(text)
        assert [line.split()[0] for line in examined(host) if "audit trail" in line] == [level]


def test_a_start_that_was_refused_holds_nothing(host: Host) -> None:
    """Its memory is no guest that holds a device, nor something that the dead left."""
    refused = guest(DISK)
    assert host.event(refused, "prepare").code == 1
    assert Path(host.machine.state, "domains", f"{refused.uuid}.json").exists()
    assert "ok    libhook holds no device for a guest" in libhook(host, "doctor").out
    processes.end(host.root, host.libvirt.pid)
    assert examined(host) == ["note  neither libvirtd nor virtqemud runs now: it finds the hook when it starts"]


def test_what_is_held(host: Host) -> None:
    """By whom, what the dead left, a journal entry that nobody can read, and a folder that others may write to."""
    guests = guest(NIC)
    host.begin(guests)
    Path(host.root, "run/libvirt/qemu/win11.xml").write_text(f"<domain><uuid>{guests.uuid}</uuid></domain>")
    assert "ok    guests for which libhook holds devices: 1" in libhook(host, "doctor").out
    Path(host.root, "run/libvirt/qemu/win11.xml").unlink()
    assert examined(host) == [
        "note  killed processes left devices of these guests: win11: see libhook status, then run: libhook recover"
    ]
    entry = Path(host.machine.state, "domains", f"{guests.uuid}.json")
    entry.write_text("{")
    (line,) = examined(host)
    assert f"{entry} is broken" in line
    Path(host.machine.state).chmod(0o777)
    (line,) = examined(host)
    assert line.startswith(f"fail  {host.machine.state} is not a folder that only root may write to")
