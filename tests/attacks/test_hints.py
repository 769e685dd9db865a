# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may define a guest names it so that a command which libhook advises, pasted into a shell, runs another."""

import re
import shlex
from pathlib import Path
from unittest import mock

import pytest
from cases import DISK, NIC
from command import Done, libhook
from generated import generated
from hypothesis import strategies as st
from plugging import xml
from scenario import Host, guest
from test_doctor import installed

from libhook import errors
from libhook.simulation.faults import Fault, inject
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

pytestmark = pytest.mark.race

OTHER = "1c15a1a0-a802-4b8e-8f5c-2a6d8a7c1f0e"
NAMES = ["a$(touch evil)b", "a;touch evil", "a\ntouch evil", "w!touch", "--all", "7", OTHER]
COMMAND = r"(?:\b(?:virsh|libhook|systemctl|echo|kill|chmod|chown|rm|mv)\b [^:;\n]*)"


def _said(root: str, name: str) -> list[Done]:
    """What is said of a guest of that name: as it runs, plugged, in another's way, dead, and not to be helped."""
    host = Host(root, workstation())
    assert host.libvirt.start(guest(NIC, name=name)).error == ""
    another = Guest("two", guest(NIC).devices, OTHER).xml()
    said = []
    with mock.patch(
        "libhook.command.commands.Hypervisor", return_value=Hypervisor(host.libvirt, attach="refuses", detach="kept")
    ):
        for verb, device in (("detach", DISK), ("detach", NIC), ("attach", DISK), ("attach", NIC)):
            said.append(libhook(host, verb, "--", name, "-", stdin=xml(device)))
    for command in (("status",), ("recover",), ("devices",), ("plan", "-"), ("inspect", "-"), ("doctor",)):
        said.append(libhook(host, *command, stdin=another))
    host.libvirt.restart()
    inject(root, Fault("write */unbind *", 0, error="EIO"))
    Path(root, f"run/libvirt/qemu/{name}.xml").unlink()
    said += [libhook(host, *command) for command in (("status",), ("recover",), ("recover", "--dry-run"), ("doctor",))]
    return said


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_command_that_is_advised_holds_the_name(root: str, name: str) -> None:
    """It holds the UUID, or nothing of the guest's."""
    said = _said(root, name)
    text = "".join(done.out + done.err for done in said)
    shown = rf"(?<![\w-]){re.escape(errors.printable(name))}(?![\w-])"
    assert re.search(shown, text)
    assert re.findall(f"{COMMAND}{shown}", text) == []
    assert f"virsh dumpxml {Guest().uuid} shows what it has" in text


@generated("names", st.text(st.characters(codec="utf-8")))
def test_a_path_in_such_a_command_is_one_word(path: str) -> None:
    """Whatever is in it, a shell reads it back as it is."""
    assert shlex.split(f"rm /{errors.pasted(path)}x") == ["rm", f"/{path}x"]


def test_a_file_among_the_hooks_runs_nothing(root: str) -> None:
    """doctor names it within the command that would remove it, as one word."""
    host = Host(root, workstation())
    installed(root)
    installed(root, "qemu.d/a;touch evil")
    (line,) = (line for line in libhook(host, "doctor").out.splitlines() if line.startswith("fail  libhook would run"))
    assert shlex.split(line.partition(": ")[2]) == ["rm", "/etc/libvirt/hooks/qemu.d/a;touch evil"]
