# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who has a device open: what vfio says, what /proc says, and what neither does."""

import errno
import os
from pathlib import Path
from unittest import mock

import pytest
from cases import GPU, NIC, SOUND
from command import libhook
from disturbing import refusing
from scenario import Host, guest

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.children.worker import Worker
from libhook.errors import DeadlineExpired, LibhookError
from libhook.look import holders
from libhook.simulation import processes, store
from libhook.simulation.hosts import nic, workstation
from libhook.simulation.kernel import SimulatedKernel

CARD = "/dev/dri/card0"


def _refusal(node: str, _: str) -> None:
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), node)


def test_what_vfio_says_counts_though_no_process_shows_it(root: str) -> None:
    """A descriptor on its way through a socket is in nobody's list; the device stays until it is free."""
    host = Host(root, nic(), "holder_wait = 0.1\n")
    host.begin(guest(NIC))
    with mock.patch.object(SimulatedKernel, "open_group", side_effect=_refusal):
        host.event(guest(NIC), "release", "shutdown")
    (entry,) = host.outcomes[-1].logged("not given back")
    assert entry["reason"] == f"{NIC} is in use by a process that does not show it (/dev/vfio/12)"
    assert host.driver(NIC) == "vfio-pci"
    assert libhook(host, "recover").code == 0
    assert (host.driver(NIC), host.leftovers) == ("e1000e", [])


@pytest.mark.parametrize("held", [True, False])
def test_where_a_group_has_no_node_the_processes_are_asked(root: str, held: bool) -> None:
    """Somebody removed it from /dev: who has it open has it still."""
    host = Host(root, nic(), "holder_wait = 0.1\n")
    host.begin(guest(NIC))
    if held:
        processes.open_file(root, processes.spawn(root, "dpdk"), "/dev/vfio/12")
    Path(root, "dev/vfio/12").unlink()
    host.event(guest(NIC), "release", "shutdown")
    assert host.driver(NIC) == ("vfio-pci" if held else "e1000e")


def test_what_cannot_be_seen_in_time_is_said(root: str) -> None:
    """Nobody is taken for free because nobody looked."""
    host = Host(root, workstation())
    wanted = {store.read(root + CARD): CARD}
    with pytest.raises(DeadlineExpired, match="libhook cannot see who has /dev/dri/card0 open: no answer in time"):
        holders.of_nodes(host.machine, wanted, Deadline.after(0))
    assert holders.known_now(host.machine, wanted, Deadline.after(0)) == ()


def test_where_nobody_can_look_that_is_said(root: str) -> None:
    """No process is to be had for it."""
    host = Host(root, workstation())
    with (
        refusing("fork", errno.EAGAIN),
        pytest.raises(LibhookError, match=r"open \(Resource temporarily unavailable"),
    ):
        holders.of_nodes(host.machine, {store.read(root + CARD): CARD}, Deadline.after(200))


def test_a_process_that_has_ended_meanwhile_has_nothing_open(root: str) -> None:
    """It was listed, and is gone; the others are looked at."""
    host = Host(root, workstation())
    pid = processes.spawn(root, "Xorg")
    processes.open_file(root, pid, CARD)
    listing = os.listdir
    with mock.patch(
        "os.listdir", lambda path=".": ["999999", *listing(path)] if path == f"{root}/proc" else listing(path)
    ):
        found = holders.of_nodes(host.machine, {store.read(root + CARD): CARD}, Deadline.after(200))
    assert [holder.pid for holder in found] == [pid]


def test_a_descriptor_that_is_closed_when_its_path_is_asked_for_is_none(root: str) -> None:
    """The kernel refused it, as it does for a process that ends."""
    host = Host(root, workstation())
    processes.open_file(root, processes.spawn(root, "Xorg"), CARD)
    refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with (
        mock.patch.object(processes.SimulatedDescriptors, "device", side_effect=refusal),
        refusing("readlink", errno.ENOENT, lambda _, dir_fd=None: dir_fd is not None),
    ):
        assert host.event(guest(GPU, SOUND), "prepare").code == 0


def test_each_group_is_asked_also_after_one_that_has_no_node(root: str) -> None:
    """Of a function with mediated devices below it, each in a group of its own."""
    host = Host(root, workstation())
    groups = {"c 243:1": "/dev/vfio/1", "c 243:2": "/dev/vfio/2"}

    def answer(node: str, _: str) -> None:
        code = errno.ENOENT if node == "/dev/vfio/1" else errno.EBUSY
        raise OSError(code, os.strerror(code), node)

    nodes = holders.Nodes(groups, groups, frozenset(groups))
    with mock.patch.object(SimulatedKernel, "open_group", side_effect=answer):
        worker = Worker(host.machine, f"{root}/mark")
        (who,) = run([holders.who_is_in_the_way(host.machine, nodes, worker, must_see=True)], Deadline.after(200))
        worker.abandon()
    assert who == "a process that does not show it (/dev/vfio/2)"
