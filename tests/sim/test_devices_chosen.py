# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook devices WORD``: which groups it shows, their XML, and what to do next."""

from pathlib import Path

import pytest
from at_terminal import COLOUR, desktop, typed
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from scenario import Host, guest

from libhook.simulation import processes
from libhook.simulation.hosts import many, nic, sriov, workstation


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    return desktop(root)


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        ((), [12, 14, 15]),
        (("gpu",), [14]),
        (("03:00.1",), [14]),
        (("pci_0000_04_00_0",), [15]),
        (("SAMSUNG",), [15]),
        (("82574L", "ethernet"), [12]),
        (("xorg",), [14]),
        (("14",), [14]),
        (("group", "14"), [14]),
        (("4",), [15]),
        (("03",), [14]),
        (("3:0.1",), [14]),
        (("3:0",), [14]),
        (("0000:04:00",), [15]),
        (("144d:a808",), [15]),
        (("6800",), [14]),
        (("rx",), [14]),
        (("sound",), [14]),
        (("network",), [12]),
        (("nic",), [12]),
        (("disk",), [15]),
        (("graphics", "card"), [14]),
        (("sound", "card"), [14]),
    ],
)
def test_words_choose_groups(host: Host, words: tuple[str, ...], groups: list[int]) -> None:
    """By group, address (that of a bus alone, too), name, class, driver, or who has it open; a group is shown whole.

    The disk's ids begin with 14, and are not meant by it.
    """
    shown = [line for line in libhook(host, "devices", *words).out.splitlines() if line.startswith("IOMMU")]
    assert shown == [f"IOMMU group {group}" for group in groups]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("electronics", "no device is electronics: a word is an IOMMU group's number, "),
        ("ard", "no device is ard: "),
        ("navi nvidia", "no device is nvidia: a word is "),
        ("samsnug", "no device is samsnug: did you mean samsung? a word is "),
        ("nvme gpu", "no single device fits all of: nvme, gpu: "),
        ("13", "there is no IOMMU group 13; there are 12, 14 and 15: "),
        ("6801", "no device is 6801: a word is "),
    ],
)
def test_words_that_no_device_has(host: Host, words: str, said: str) -> None:
    """What a word may be is said, and which was meant where one is near. Only the beginning of what is shown counts.

    Samsung's whole name, which is not shown, has the word Electronics.
    """
    done = libhook(host, "devices", *words.split())
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(said)


def test_of_many_groups_the_first_are_named(root: str) -> None:
    """A screen full of numbers helps nobody."""
    err = libhook(Host(root, many(100)), "devices", "101").err
    assert err.startswith("there is no IOMMU group 101; there are 0, 1, 2, 3, 4, 5, 6, 7 and 92 more: ")


def test_the_next_step_is_named_at_a_terminal_alone(host: Host) -> None:
    """With the GPU as the example, which people mostly mean; in a pipe there is only the answer."""
    assert _next(host) == [
        "next: libhook devices 03:00.0 --xml prints what gives a guest that group; add it by virsh edit GUEST",
        "then: libhook plan GUEST says what to do about what is in the way",
    ]
    assert _next(host, "ethernet") == [
        "next: libhook devices 01:00.0 --xml prints what gives a guest that group; add it by virsh edit GUEST",
        "then: libhook plan GUEST says what its start would do, or why not",
    ]
    assert "next: " not in libhook(host, "devices").out


def _next(host: Host, *words: str) -> list[str]:
    lines = COLOUR.sub("", typed(host, "devices", *words, width=200)).splitlines()
    return [line for line in lines if line.startswith(("next: ", "then: "))]


def test_where_to_paste_the_xml_is_said_at_a_terminal_alone(host: Host) -> None:
    """A file has the XML, and nothing else. That a guest has it already is said there, too."""
    seen = typed(host, "devices", "ethernet", "--xml", width=120)
    assert seen.endswith(
        "</hostdev>\nnext: paste this among <devices> of the guest: virsh edit GUEST\n"
        "then: libhook plan GUEST says what its start would do, or why not\n"
    )
    assert max(map(len, seen.partition("next: ")[0].splitlines())) <= 72
    folder = Path(host.root, "etc/libvirt/qemu")
    folder.mkdir(parents=True)
    (folder / "card.xml").write_bytes(guest(NIC, name="card").xml())
    mind = "mind: in the configuration of card already\n"
    assert libhook(host, "devices", "ethernet", "--xml").err == mind
    seen = typed(host, "devices", "ethernet", "--xml", width=120)
    assert seen.endswith(f"{mind}next: libhook plan card says what its start would do, or why not\n")


def test_the_next_step_of_a_guest_that_has_the_device(host: Host) -> None:
    """Nothing is left to paste. No command has a name that a shell takes for something else."""
    folder = Path(host.root, "etc/libvirt/qemu")
    folder.mkdir(parents=True)
    (folder / "card.xml").write_bytes(guest(NIC, name="card").xml())
    (folder / "odd.xml").write_bytes(guest(DISK, name="$(odd)").xml().replace(b"<uuid>c", b"<uuid>d"))
    assert _next(host, "ethernet") == ["next: libhook plan card says what its start would do, or why not"]
    assert _next(host, "nvme") == ["next: libhook plan GUEST says what to do about what is in the way"]
    (folder / "win11.xml").write_bytes(guest(NIC, name="win11").xml().replace(b"<uuid>c", b"<uuid>e"))
    assert _next(host, "win11") == ["next: libhook plan win11 says what its start would do, or why not"]
    host.libvirt.start(guest(NIC, name="card"))
    assert _next(host, "ethernet") == ["next: libhook status shows what the guest card has"]


def test_the_xml_of_a_group_makes_a_guest_that_would_start(root: str) -> None:
    """All that goes together, for the whole group, or one VF alone; what is in the way is on stderr."""
    host = Host(root, workstation())
    done = libhook(host, "devices", "03:00.0", "--xml")
    assert (done.code, done.err) == (0, "")
    whole = guest(NIC).xml()
    start, end = whole.index(b"<hostdev"), whole.rindex(b"</hostdev>") + len(b"</hostdev>")
    plan = libhook(host, "plan", "-", stdin=whole[:start] + done.out.encode() + whole[end:])
    assert plan.code == 0
    assert [line for line in plan.out.splitlines() if " -> vfio-pci" in line] == [
        f"{GPU}: amdgpu -> vfio-pci (hostdev of the guest)",
        f"{SOUND}: snd_hda_intel -> vfio-pci (hostdev of the guest)",
    ]
    processes.add(root, 812, "Xorg", ("/dev/dri/card0",))
    done = libhook(host, "devices", "03:00.0", "--xml")
    assert done.code == 0
    assert done.err.startswith(f"pass both together; in the way: {GPU} is in use by the host: ")


def test_the_xml_is_of_what_is_named(root: str) -> None:
    """That of the whole host would be no answer."""
    host = Host(root, nic())
    done = libhook(host, "devices", "--xml")
    assert (done.code, done.out) == (2, "")
    assert "libhook devices: --xml needs a word: " in done.err
    done = libhook(host, "devices", "nic", "--xml", "--json")
    assert (done.code, done.out) == (2, "")


def test_the_xml_is_of_one_group(host: Host) -> None:
    """A block of the devices of several would not tell which is which. Where nothing can be passed does not count."""
    done = libhook(host, "devices", "0000:0", "--xml")
    assert (done.code, done.out) == (1, "")
    assert done.err == "0000:0 fits groups 12, 14 and 15: name one of them\n"
    amd = libhook(Host(f"{host.root}/vfs", sriov()), "devices", "virtual", "--xml")
    assert (amd.code, amd.out) == (1, "")
    assert amd.err.startswith("virtual fits groups ")


def test_the_xml_of_a_vf_is_its_own(root: str) -> None:
    """Not that of the group in which its PF is."""
    out = libhook(Host(root, sriov()), "devices", "01:10.4", "--xml").out
    assert "<address domain='0x0000' bus='0x01' slot='0x10' function='0x4'/>" in out
    assert out.count("<hostdev") == 1
