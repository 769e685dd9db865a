# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which processes may open a device by a right of their own, in small hand-made trees."""

import os
from pathlib import Path

import pytest

from libhook.facts.machine import Machine
from libhook.look.rights import Rights
from libhook.simulation.kernel import SimulatedKernel

NODE = "/dev/card"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A node that its owner alone may open."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/card").touch(0o600)
    (tmp_path / "run/libvirt/qemu/autostart.pid").mkdir(parents=True)
    return Machine(str(tmp_path), SimulatedKernel(str(tmp_path)))


def _process(machine: Machine, pid: int, user: int, groups: str = "") -> str:
    folder = Path(machine.proc, str(pid))
    folder.mkdir(parents=True)
    (folder / "status").write_text(f"Name:\tx\nUid:\t{user}\t0\t0\t0\nGid:\t{user}\t0\t0\t0\nGroups:\t{groups}\n")
    return str(pid)


def test_root_and_the_owner_have_a_right(machine: Machine) -> None:
    """As real users: a set-user-ID program is run by anybody."""
    rights = Rights(machine, machine.proc, [NODE])
    assert rights.has(_process(machine, 5, 0), 0)
    assert rights.has(_process(machine, 6, os.geteuid()), os.geteuid())
    assert not rights.has(_process(machine, 7, 1234), 0)


def test_a_group_and_everybody_as_the_mode_says(machine: Machine) -> None:
    """By any group of the process."""
    pid = _process(machine, 5, 1234, f"7 {os.getegid()}")
    node = Path(machine.root + NODE)
    for mode, expected in ((0o600, False), (0o660, True), (0o606, True)):
        node.chmod(mode)
        assert Rights(machine, machine.proc, [NODE]).has(pid, 1234) is expected


def test_a_user_is_asked_for_once(machine: Machine) -> None:
    """He may have thousands of processes."""
    rights = Rights(machine, machine.proc, [NODE])
    assert not rights.has(_process(machine, 5, 1234), 1234)
    assert not rights.has("6", 1234)


def test_a_guest_has_a_right(machine: Machine) -> None:
    """libvirt gave it the device in a /dev of its own, where the node is the guest's user's."""
    Path(machine.root, "run/libvirt/qemu/win11.pid").write_text("5\n")
    rights = Rights(machine, machine.proc, [NODE])
    assert rights.has(_process(machine, 5, 1234), 1234)
    assert not rights.has(_process(machine, 6, 1234), 1234)


def test_what_is_gone_has_none(machine: Machine) -> None:
    """A process that has ended; a node that went; a host without libvirt's folder."""
    assert not Rights(Machine(f"{machine.root}/nowhere", machine.kernel), f"{machine.root}/nowhere", [NODE]).has(
        "5", 1234
    )
