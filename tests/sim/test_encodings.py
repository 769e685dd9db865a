# SPDX-License-Identifier: LGPL-2.1-or-later
"""A terminal or a pipe whose encoding does not have the letters of a name: they are escaped, and nothing else."""

import json
import os
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from cases import DISK, NIC
from command import Done, libhook
from plugging import xml
from scenario import LAUNCHER, Host, guest

from libhook.facts.entry import Held
from libhook.handlers.record import encode
from libhook.look.holders import Holder
from libhook.simulation import processes
from libhook.simulation.faults import Fault, inject
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

ROOT = Path(__file__).parents[2]
NAME = "wïn☃\u202e"
"""Latin letters, one that few encodings have, and one that turns the direction of what follows."""
OTHER = "1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e"
ENCODINGS = ["utf-8", "latin-1", "ascii", "koi8-r"]
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)
RECORD = (
    "type=VIRT_RESOURCE msg=audit(1795535088.344:10): pid=518 uid=0 auid=4294967295 ses=4294967295 msg='virt=kvm "
    f'resrc=dev reason=start {encode("vm", NAME)} uuid={OTHER} bus=pci device="{NIC}" '
    'exe="/usr/bin/python3.13" hostname=? addr=? terminal=? res=success\'\n'
)


def _escaped(done: Done, encoding: str) -> Done:
    """What it would be there, had it been written in UTF-8."""
    out, err = (text.encode(encoding, "backslashreplace").decode(encoding) for text in done[1:])
    return Done(done.code, out, err)


@each_encoding
@pytest.mark.parametrize(
    ("command", "code", "on_stderr"),
    [
        (("inspect", "-"), 0, False),
        (("plan", "-"), 0, False),
        (("devices",), 0, False),
        (("status",), 1, True),
        (("recover", "--dry-run"), 1, True),
        (("doctor",), 1, False),
        (("history",), 0, False),
        (("inspect", f"/nonexistent/{NAME}"), 1, True),
        (("plan", "-", f"--{NAME}"), 2, True),
    ],
)
def test_what_only_shows_a_name(root: str, encoding: str, command: tuple[str, ...], code: int, on_stderr: bool) -> None:
    """Each command says the same in every encoding, but for the letters that it does not have."""
    host = Host(root, workstation())
    host.begin(guest(NIC, name=NAME))
    broken = Path(host.machine.state) / f"domains/{NAME}.json"
    broken.write_text("{")
    (Path(root) / "var/log/audit").mkdir()
    (Path(root) / "var/log/audit.log").write_text(RECORD)
    (Path(root) / "etc/audit").mkdir()
    (Path(root) / "etc/audit/auditd.conf").write_text("log_file = /var/log/audit.log\n")
    host.libvirt.restart()
    another = Guest(NAME, guest(NIC).devices, OTHER).xml()
    before = libhook(host, *command, stdin=another)
    done = libhook(host, *command, stdin=another, encoding=encoding)
    assert done == _escaped(before, encoding)
    assert done.code == code
    assert "wïn☃".encode(encoding, "backslashreplace").decode(encoding) in (done.err if on_stderr else done.out)


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("recover",),
        ("recover", "--dry-run"),
        ("devices",),
        ("inspect", "same"),
        ("plan", "same"),
        ("plan", "other"),
        ("plan", "other", "--event", "start"),
    ],
)
def test_no_line_has_a_name_as_it_is(root: str, command: tuple[str, ...], tmp_path: Path) -> None:
    """A guest that runs has a name with a line feed and a terminal's commands in it. JSON has it whole, in ASCII."""
    name = f"{NAME}\n\x9b31m"
    host = Host(root, workstation())
    same = guest(NIC, name=name)
    assert host.libvirt.start(same).error == ""
    for word, text in (("same", same.xml()), ("other", Guest(f"{name}2", same.devices, OTHER).xml())):
        (tmp_path / word).write_bytes(text)
    words = [str(tmp_path / word) if word in ("same", "other") else word for word in command]
    done = libhook(host, *words)
    assert "wïn☃\\u202e\\n\\x9b31m" in done.out
    assert all(line.isprintable() for line in f"{done.out}{done.err}".split("\n"))
    if command[0] != "recover":
        done = libhook(host, *words, "--json")
        assert done.out.isascii()
        assert json.dumps(name)[1:-1] in done.out


@each_encoding
def test_what_gives_a_guest_its_devices_back_is_not_stopped_by_its_name(root: str, encoding: str) -> None:
    """recover goes on with the next guest, also after one that it could not help."""
    host = Host(root, workstation())
    host.begin(guest(NIC, name=NAME))
    host.begin(Guest(f"{NAME}2", guest(DISK).devices, OTHER))
    host.libvirt.restart()
    inject(root, Fault(f"write */unbind {DISK}", 0, error="EIO"))
    done = libhook(host, "recover", encoding=encoding)
    shown = "wïn☃".encode(encoding, "backslashreplace").decode(encoding)
    assert (done.code, done.out) == (1, f'"{shown}\\u202e": given back\n')
    assert done.err.startswith(f'"{shown}\\u202e2": not given back: {DISK}: ')
    assert (host.driver(NIC), host.driver(DISK)) == ("e1000e", "vfio-pci")


@each_encoding
def test_plugging_in_and_out(root: str, encoding: str) -> None:
    """What came of it is told whole; a refusal, too."""
    host = Host(root, workstation())
    assert host.libvirt.start(Guest(NAME)).error == ""
    shown = "wïn☃\\u202e".encode(encoding, "backslashreplace").decode(encoding)
    with mock.patch("libhook.command.commands.Hypervisor", return_value=Hypervisor(host.libvirt)):
        for verb, said in (("attach", f"has pci {NIC} now"), ("detach", f"gave up pci {NIC}")):
            done = libhook(host, verb, NAME, "-", stdin=xml(NIC), encoding=encoding)
            assert done == (0, f'"{shown}": {said}\n', "")
        done = libhook(host, "detach", NAME, "-", stdin=xml(NIC), encoding=encoding)
    assert done.err.startswith(f'the guest "{shown}" has no such device: ')


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1", "utf-8:strict"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "nonexistent"])
def test_a_process_of_its_own(root: str, locale: str, encoding: str) -> None:
    """However the environment sets the streams up: no traceback, and each line whole; surrogates are escaped, too."""
    host = Host(root, workstation())
    host.begin(guest(NIC, name=NAME))
    held = host.state.load(Guest().uuid)
    assert held
    host.state.save(Held(**{**held._asdict(), "name": f"{NAME}\udc80"}))
    environment = {"LIBHOOK_ROOT": root, "PATH": "/usr/bin:/bin", "LC_ALL": locale, "PYTHONIOENCODING": encoding}
    command = ["/usr/bin/python3", "-m", "libhook", "status"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=600)
    shown = f"{NAME}\udc80".encode(encoding.partition(":")[0], "backslashreplace")
    assert (done.returncode, done.stderr) == (1, b""), "no QEMU of the guest runs"
    assert done.stdout.startswith(b'"' + shown.replace("\u202e".encode(), b"\\u202e") + b'"  ')


@pytest.mark.parametrize("environment", [{}, {"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "nonexistent"}])
def test_the_line_that_libvirtd_reads(root: str, environment: dict[str, str]) -> None:
    """The hook's refusal names the guest that has the device, in UTF-8 as libvirt reads it, or escaped; one line."""
    host = Host(root, workstation(), launcher=True)
    assert host.libvirt.start(guest(NIC, name=NAME)).error == ""
    host.launching = lambda command, document, usual: _launched(command, document, {**usual, **environment})
    outcome = host.event(Guest("two", guest(NIC).devices, OTHER), "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f'{NIC} is held by the guest "wïn☃\\u202e": ')


def _launched(command: list[str], document: bytes, environment: dict[str, str]) -> tuple[int, bytes, bytes]:
    assert command[0] == str(LAUNCHER)
    done = subprocess.run(command, input=document, capture_output=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


@each_encoding
def test_a_process_that_is_called_so(root: str, encoding: str) -> None:
    """Who has a device open names itself: it cannot keep devices from being shown."""
    host = Host(root, workstation())
    host.begin(guest(NIC))
    processes.add(root, os.getpid() + 1, NAME, opened=["/dev/vfio/12"])
    done = libhook(host, "devices", encoding=encoding)
    assert (done.code, done.err) == (0, "")
    shown = str(Holder(os.getpid() + 1, NAME, "/dev/vfio/12")).encode(encoding, "backslashreplace").decode(encoding)
    assert f"open in {shown}" in done.out
