# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest by its name or UUID: its XML comes from libvirt's files, and from no other place."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from cases import GPU, NIC, SOUND
from command import libhook
from scenario import Host, document, guest

from libhook.command import guest as finding
from libhook.errors import LibhookError
from libhook.facts.machine import Machine
from libhook.look import guests
from libhook.look.linux import LinuxKernel
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import sriov, workstation

UUID = Guest().uuid
DEFINED = "etc/libvirt/qemu"


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """With a guest win11 that is defined."""
    host = Host(root, workstation())
    define(host, guest(NIC))
    return host


def define(host: Host, one: Guest) -> None:
    """As libvirt writes it, under a remark of its own."""
    folder = Path(host.root, DEFINED)
    folder.mkdir(parents=True, exist_ok=True)
    remark = b"<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n"
    (folder / f"{one.name}.xml").write_bytes(remark + one.xml())


@pytest.mark.parametrize("word", ["win11", UUID, UUID.upper()])
def test_a_guest_is_found_by_name_and_uuid(host: Host, word: str) -> None:
    """Its plan is that of its XML."""
    asked = libhook(host, "plan", word)
    assert asked == libhook(host, "plan", "-", stdin=guest(NIC).xml())
    assert (asked.code, asked.err) == (0, "")
    assert json.loads(libhook(host, "inspect", word, "--json").out)["name"] == "win11"


def test_a_uuid_goes_before_a_name(host: Host) -> None:
    """A guest whose name is another's UUID is found by its own UUID."""
    define(host, Guest(UUID, uuid="1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e"))
    assert json.loads(libhook(host, "inspect", UUID, "--json").out)["name"] == "win11"


def test_of_a_guest_that_runs_plan_shows_the_next_start(host: Host) -> None:
    """By its definition; inspect shows what it has now; a guest that is nowhere defined has but one XML."""
    host.libvirt.start(guest(NIC))
    define(host, guest(NIC, GPU, SOUND))
    plan = libhook(host, "plan", "win11")
    assert plan.out.splitlines()[0].startswith("warning: the guest win11 runs: ")
    assert GPU in plan.out
    found = json.loads(libhook(host, "plan", "win11", "--json").out)
    assert found["running"] is True
    assert found["names"][GPU]["ids"] == "1002:73bf"
    assert found["names"][NIC] == {
        "ids": "8086:10d3",
        "vendor": "Intel Corporation",
        "model": "82574L Gigabit Network Connection",
    }
    devices = json.loads(libhook(host, "inspect", "win11", "--json").out)["host_devices"]
    assert [device["address"] for device in devices] == [NIC]
    release = libhook(host, "plan", "win11", "--event", "release", "--json").out
    assert NIC in release
    assert GPU not in release
    Path(host.root, DEFINED, "win11.xml").unlink()
    assert json.loads(libhook(host, "plan", "win11", "--json").out)["running"] is True


def test_a_guest_that_does_not_run_is_not_running(host: Host) -> None:
    """In the same field."""
    assert json.loads(libhook(host, "plan", "win11", "--json").out)["running"] is False


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("win1", "there is no file and no guest win1: did you mean win11? virsh list --all lists the guests"),
        ("", 'there is no file and no guest "": virsh list --all lists the guests'),
        ("\x1b[31m", 'there is no file and no guest "\\x1b[31m": virsh list --all lists the guests'),
        ("..", "..: Is a directory: "),
        ("../win11", "../win11: No such file or directory: "),
        ("qemu/win11", "qemu/win11: No such file or directory: "),
        ("win11.xml", "win11.xml: No such file or directory: "),
        ("networks/default", "networks/default: No such file or directory: "),
    ],
)
def test_a_word_that_is_nothing(host: Host, word: str, said: str) -> None:
    """One line, with what was probably meant; a word never leads out of libvirt's folder."""
    done = libhook(host, "plan", word)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1


def test_a_name_may_begin_with_a_hyphen(host: Host) -> None:
    """After ``--``, as everywhere."""
    define(host, guest(NIC, name="--json"))
    assert libhook(host, "inspect", "--", "--json").out.startswith(f"{UUID}  kvm  --json\n")


def test_a_file_goes_before_a_guest(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where both are there, that is said."""
    (tmp_path / "win11").write_bytes(guest(GPU, SOUND, name="file").xml())
    monkeypatch.chdir(tmp_path)
    done = libhook(host, "inspect", "win11")
    assert done.out.startswith(f"{UUID}  kvm  file\n")
    assert done.err == "win11 is a file here, and a guest: this is the file; ./win11 or the guest's UUID is clear\n"
    assert libhook(host, "inspect", "./win11").err == ""


def test_an_error_names_the_file_and_the_line(host: Host, tmp_path: Path) -> None:
    """Of a file, of stdin, and of the file of libvirt's."""
    path, bad = tmp_path / "bad.xml", guest(NIC).xml().replace(b"bus='0x01'", b"bus='0x100'")
    path.write_bytes(bad)
    line = bad[: bad.index(b"0x100")].count(b"\n") + 1
    assert libhook(host, "plan", str(path)).err.startswith(f"{path}, line {line}: ")
    assert libhook(host, "plan", "-", stdin=bad).err.startswith(f"stdin, line {line}: ")
    Path(host.root, DEFINED, "bad.xml").write_bytes(bad)
    assert libhook(host, "inspect", "bad").err.startswith(f"/{DEFINED}/bad.xml, line {line}: ")


@pytest.fixture(name="virsh")
def _virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a virsh of these lines, and libvirt's files unreadable. Returns where it notes what it is asked."""

    def make(script: str) -> Path:
        path = tmp_path / "virsh"
        path.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >{tmp_path}/asked\n{script}\n')
        path.chmod(0o755)
        run = subprocess.run
        monkeypatch.setattr(subprocess, "run", lambda command, **how: run((str(path), *command[1:]), **how))
        return tmp_path / "asked"

    monkeypatch.setattr(guests, "find", mock.Mock(side_effect=PermissionError(13, "Permission denied", "/etc/libvirt")))
    return make


MACHINE = Machine("", LinuxKernel())


def test_who_may_not_read_the_files_asks_virsh(virsh: Callable[[str], Path]) -> None:
    """The configuration, or with ``live`` what is there now; a name is never an option of virsh's."""
    asked = virsh("echo '<domain/>'")
    assert finding.document(MACHINE, "-x;y", live=False) == ('the guest "-x;y"', b"<domain/>\n", True)
    assert asked.read_text() == "-q|-c|qemu:///system|dumpxml|--inactive|--|-x;y|"
    finding.document(MACHINE, "win 11", live=True)
    assert asked.read_text() == "-q|-c|qemu:///system|dumpxml|--|win 11|"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'error: failed to get domain' >&2; exit 1",
            "virsh does not know the guest win11: failed to get domain: ",
        ),
        ("exec sleep 60", "virsh does not answer within 0.2 s: run it as root"),
    ],
)
def test_a_virsh_that_does_not_know(
    virsh: Callable[[str], Path], script: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words, or that it says nothing; with what to do."""
    monkeypatch.setattr(finding, "_PATIENCE", 0.2 if "sleep" in script else 60)
    virsh(script)
    with pytest.raises(LibhookError) as failed:
        finding.document(MACHINE, "win11", live=False)
    assert failed.value.line.startswith(said)


def test_a_simulated_host_asks_no_virsh(virsh: Callable[[str], Path], host: Host) -> None:
    """What it has not, it has not."""
    asked = virsh("echo '<domain/>'")
    assert libhook(host, "plan", "win11").err == "/etc/libvirt: Permission denied: run it as root\n"
    assert not asked.exists()


@pytest.mark.parametrize("where", [f"{DEFINED}/networks", "run/libvirt/network"])
def test_an_interface_out_of_a_pool_is_shown_by_inspect(root: str, where: str) -> None:
    """Where libvirt's file of the network says that it is one; its name leads nowhere else."""
    host = Host(root, sriov())
    folder = Path(root, where)
    os.makedirs(folder)
    (folder / "vfs.xml").write_text("<network><name>vfs</name><forward mode='hostdev' managed='yes'/></network>")
    (folder / "nat.xml").write_text("<network><name>nat</name><forward mode='nat'/></network>")
    (Path(root) / "vfs.xml").write_text("<forward mode='hostdev'/>")
    names = ("vfs", "nat", "gone", f"{'../' * 5}vfs", "/vfs")
    xml = document(*(f"<interface type='network'><source network='{name}'/></interface>" for name in names))
    done = libhook(host, "inspect", "-", stdin=xml)
    assert done.out.splitlines()[2:] == [
        "pci   pool    ?        ?  of the network vfs  address known at start",
        "    its record names that address",
    ]
    assert len(json.loads(libhook(host, "inspect", "-", "--json", stdin=xml).out)["pools"]) == 1


@pytest.mark.parametrize("name", ["../qemu/win11", "/etc/libvirt/qemu/win11", "win11\0"])
def test_no_name_leads_out_of_libvirts_folder(host: Host, name: str) -> None:
    """It is a guest's name, and no path."""
    assert guests.find(host.machine, name, live=False) is None
    assert guests.find(host.machine, "win11", live=False) is not None
