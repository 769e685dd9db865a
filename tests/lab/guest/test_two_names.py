# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that have two names, on the real kernel: guests that set one by either, and that a table of ours is true."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from calls import call
from conftest import Configure, MakeGuest
from guests import pci, usb
from host import NIC, USB_PEN

sys.path.insert(0, "/src")
from libhook.facts.machine import Machine
from libhook.facts.samefile import _SAME
from libhook.look import samefile
from libhook.look.linux import LinuxKernel

CLASS, OWN = Path("/sys/class/net/lab-two/mtu"), Path("/sys/devices/virtual/net/lab-two/mtu")
HOST = Machine("", LinuxKernel())
PAGES, NODES = "/sys/kernel/mm/hugepages/hugepages-2048kB", "/sys/devices/system/node"


@pytest.fixture
def interface() -> Iterator[None]:
    """It goes before the host is compared."""
    subprocess.run(["ip", "link", "add", "lab-two", "type", "dummy"], check=True)
    yield
    subprocess.run(["ip", "link", "del", "lab-two"], check=True)


@pytest.mark.rest
@pytest.mark.usefixtures("interface")
@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_guests_and_two_names_of_an_mtu(guest: MakeGuest, configure: Configure, first_to_end: int) -> None:
    """Whoever ends first leaves the other its MTU, and the last gives back the host's."""
    guests = [guest(pci(NIC)), guest(usb(USB_PEN))]
    configure(
        "".join(
            f'[domains."{one.uuid}".values]\n"{path}" = 1400\n' for one, path in zip(guests, (CLASS, OWN), strict=True)
        )
    )
    before = OWN.read_text()
    for one in guests:
        one.start()
        assert OWN.read_text() == "1400\n"
    for one, mtu in ((guests.pop(first_to_end), "1400\n"), (guests.pop(), before)):
        one.destroy()
        one.wait_until_gone()
        assert OWN.read_text() == mtu


@pytest.mark.usefixtures("interface")
def test_an_mtu_sets_that_of_ipv6(guest: MakeGuest, configure: Configure) -> None:
    """Both come back where they are the same. Where they are not, the start is refused, and both stay as they are."""
    one, ipv6 = guest(usb(USB_PEN)), Path("/proc/sys/net/ipv6/conf/lab-two/mtu")
    configure(f'[values]\n"{CLASS}" = 1400\n')
    before = OWN.read_text()
    assert (call(one, "prepare").code, OWN.read_text(), ipv6.read_text()) == (0, "1400\n", "1400\n")
    assert (call(one, "release", "failed").code, OWN.read_text(), ipv6.read_text()) == (0, before, before)
    ipv6.write_text("1300\n")
    assert call(one, "prepare").code == 1
    assert (call(one, "release", "failed").code, OWN.read_text(), ipv6.read_text()) == (0, before, "1300\n")


@pytest.mark.rest
def test_the_kernel_has_one_value_under_both_names() -> None:
    """Where a kernel has both: what libhook writes by the file's own name is read by the other."""
    for module in ("nf_conntrack", "sunrpc", "lockd", "nfs", "nfsv4", "ipmi_poweroff"):
        subprocess.run(["modprobe", module], check=False)
    ways = dict(_SAME)
    ways |= {f"{PAGES}/{name}": f"/proc/sys/vm/{name}" for name in ("nr_hugepages", "nr_overcommit_hugepages")}
    ways[f"{PAGES}/nr_hugepages_mempolicy"] = "/proc/sys/vm/nr_hugepages"
    ways["/sys/kernel/debug/tracing/tracing_on"] = "/sys/kernel/tracing/tracing_on"
    ways["/sys/block/pmem0/queue/read_ahead_kb"] = f"{os.path.realpath('/sys/block/pmem0/bdi')}/read_ahead_kb"
    tried = {name: _one_value(name, own) for name, own in ways.items() if Path(name).exists() and Path(own).exists()}
    print(tried, {name for name in ways if name not in tried})
    assert [name for name, is_one in tried.items() if not is_one] == []
    assert len(tried) > len(ways) / 2
    assert [name for name in ways if name in tried and _own_name(name) != ways[name]] == []


def test_a_part_and_its_whole_change_together() -> None:
    """The pages of a node and of all nodes."""
    part, whole = f"{NODES}/node0/hugepages/hugepages-2048kB/nr_hugepages", "/proc/sys/vm/nr_hugepages"
    assert samefile._file(HOST, part, "2048kB").whole == whole
    before, was = Path(part).read_text(), Path(whole).read_text()
    Path(part).write_text(f"{int(before) + 4}\n")
    changed = Path(whole).read_text()
    Path(part).write_text(before)
    assert (changed != was, Path(whole).read_text()) == (True, was)


def test_transparent_huge_pages_set_how_much_is_kept_free() -> None:
    """A lower value of somebody's own is raised, also where the word stays the same."""
    pages, free = Path("/sys/kernel/mm/transparent_hugepage/enabled"), Path("/proc/sys/vm/min_free_kbytes")
    assert samefile._file(HOST, str(pages), "2048kB").whole == str(free)
    word, before = pages.read_text().partition("[")[2].partition("]")[0], free.read_text()
    pages.write_text("always\n")
    free.write_text("1024\n")
    pages.write_text("always\n")
    raised = int(free.read_text())
    pages.write_text(f"{word}\n")
    free.write_text(before)
    assert (raised > 1024, free.read_text()) == (True, before)


def _one_value(name: str, own: str) -> bool:
    before = Path(own).read_text()
    number = int(before)
    for other in (number + 1, number - 1, number + 4, number * 2, 1 - number):
        with suppress(OSError):
            Path(own).write_text(f"{other}\n")
        now = Path(own).read_text()
        same = now == Path(name).read_text()
        if now != before:
            Path(own).write_text(before)
            return same and Path(name).read_text() == Path(own).read_text() == before
    return False


def _own_name(path: str) -> str:
    return samefile._file(HOST, path, samefile.page_size(HOST)).name
