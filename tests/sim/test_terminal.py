# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees at a terminal: the same facts as in a pipe, in colours, and within its width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from scenario import Host, guest

from libhook.simulation import processes
from libhook.simulation.hosts import many, nic, nvidia, sriov, workstation

ROOT = Path(__file__).parents[2]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from libhook.cli import main; main()"


def _seen(host: Host, *arguments: str, width: int = 80, program: tuple[str, ...] = (), **more: str) -> str:
    """What it writes to a terminal of this width; there both stdout and stderr end."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {"LIBHOOK_ROOT": host.root, "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", **more}
    command = (sys.executable, *(program or ("-m", "libhook")), *arguments)
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its)
    os.close(its)
    found = b""
    try:
        while part := os.read(ours, 1 << 16):
            found += part
    except OSError:  # EIO: nobody has the terminal open any more
        pass
    os.close(ours)
    process.wait(60)
    return found.decode().replace("\r\n", "\n")


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A workstation whose desktop is on the GPU, and whose disk is mounted."""
    host = Host(root, workstation())
    with open(f"{root}/proc/self/mountinfo", "a") as mounts:
        mounts.write("40 22 259:1 / /data rw - xfs /dev/nvme0n1 rw\n")
    processes.add(root, 812, "Xorg", ("/dev/dri/card0",))
    return host


@pytest.mark.parametrize("width", [40, 60, 69, 70, 80, 120])
@pytest.mark.parametrize("command", [("devices",), ("plan", "win11.xml"), ("status",), ("doctor",), ("config",)])
def test_no_line_is_wider_than_the_terminal(host: Host, width: int, command: tuple[str, ...]) -> None:
    """So that the terminal breaks no word."""
    host.libvirt.start(guest(NIC))
    path = Path(host.root, "win11.xml")
    path.write_bytes(guest(NIC, GPU).xml())
    words = (str(path) if word == path.name else word for word in command)
    lines = _COLOUR.sub("", _seen(host, *words, width=width)).splitlines()
    assert lines
    if command == ("doctor",):
        lines.pop()  # what is wrong, on stderr
    assert [line for line in lines if len(line) > width and not line.startswith("mkdir ")] == []


@pytest.mark.parametrize("width", [40, 80, 132])
def test_a_command_to_paste_is_whole(host: Host, width: int) -> None:
    """It begins a line, and no line feed is in it, however narrow the terminal."""
    path = Path(host.root, "win11.xml")
    path.write_bytes(guest(GPU).xml())
    processes.end(host.root, 812)  # the desktop
    lines = _COLOUR.sub("", _seen(host, "plan", str(path), width=width)).splitlines()
    (command,) = [line for line in lines if line.startswith("mkdir ")]
    assert f"run: {command}" in libhook(host, "plan", str(path)).out


def test_what_wraps_is_no_new_entry(host: Host) -> None:
    """It stands further right than the entry, and than its details."""
    lines = _COLOUR.sub("", _seen(host, "plan", _xml(host, NIC), width=60)).splitlines()
    entry = next(at for at, line in enumerate(lines) if line.startswith(NIC))
    assert lines[entry + 1].startswith("    ")
    assert lines[entry + 2].startswith("  write ")


@pytest.mark.parametrize("width", [44, 120])
def test_a_short_command_to_paste_is_whole_too(host: Host, width: int) -> None:
    """It stands where the text does, as long as it fits."""
    host.configure("[domains.win11.handlers.night]\n")
    folder = Path(host.root, "etc/libhook/handlers")
    folder.mkdir()
    (folder / "night.py").touch()
    *_, last = _seen(host, "handlers", width=width).splitlines()
    assert last.endswith("libhook handlers enable night")
    assert last.startswith("libhook" if width == 44 else "night  not enabled  ")


@pytest.mark.parametrize("width", [40, 120])
def test_a_terminal_has_all_that_a_pipe_has(host: Host, width: int) -> None:
    """Each word of it, as a table or as cards."""
    shown = "".join(_COLOUR.sub("", _seen(host, "devices", width=width)).split())
    for word in re.split(r"\s+|(?<=\S), |[][]", libhook(host, "devices").out):
        assert word in shown


def test_what_matters_has_a_colour(host: Host) -> None:
    """What may be passed is green, what is in the way red; a refusal is red, and stands there once."""
    lines = _seen(host, "devices", width=120).splitlines()
    assert [line for line in lines if line.startswith("\x1b[32m  can be passed")] != []
    (line,) = (line for line in lines if "pass both together; in the way: " in line)
    assert line.startswith("\x1b[31m")
    plan = _seen(host, "plan", _xml(host, GPU, SOUND), width=200)
    assert plan.startswith("\x1b[1;31mrefuse:\x1b[0m ")
    assert plan.count("is in use by the host: it is open in Xorg") == 1
    doctor = _seen(host, "doctor", width=200)
    assert "\x1b[1;31mfail\x1b[0m  libhook's hook is not in /etc/libvirt/hooks" in doctor
    assert "\x1b[32mok  \x1b[" in doctor


def _xml(host: Host, *addresses: str) -> str:
    path = Path(host.root, "guest.xml")
    path.write_bytes(guest(*addresses).xml())
    return str(path)


def test_no_color_is_heeded(host: Host) -> None:
    """No colour is left."""
    assert "\x1b[3" not in _seen(host, "devices", NO_COLOR="1")


@pytest.mark.parametrize("how", ["dumb", "no rich"])
@pytest.mark.parametrize("command", ["devices", "plan", "status", "doctor"])
def test_without_rich_and_on_a_dumb_terminal_it_is_plain(host: Host, how: str, command: str) -> None:
    """The lines of a pipe."""
    words = (command, *((_xml(host, NIC),) if command == "plan" else ()))
    seen = _seen(host, *words, TERM="dumb") if how == "dumb" else _seen(host, *words, program=("-c", WITHOUT_RICH))
    assert "\x1b" not in seen
    assert seen.startswith(libhook(host, *words, names=True).out)


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
    lines = _COLOUR.sub("", _seen(host, "devices", *words, width=200)).splitlines()
    return [line for line in lines if line.startswith(("next: ", "then: "))]


def test_where_to_paste_the_xml_is_said_at_a_terminal_alone(host: Host) -> None:
    """Also that a guest has it; a file has the XML, and nothing else."""
    seen = _seen(host, "devices", "ethernet", "--xml", width=120)
    assert seen.endswith(
        "</hostdev>\nnext: paste this among <devices> of the guest: virsh edit GUEST\n"
        "then: libhook plan GUEST says what its start would do, or why not\n"
    )
    assert max(map(len, seen.partition("next: ")[0].splitlines())) <= 72
    folder = Path(host.root, "etc/libvirt/qemu")
    folder.mkdir(parents=True)
    (folder / "card.xml").write_bytes(guest(NIC, name="card").xml())
    assert "mind: in the configuration of card already\n" in _seen(host, "devices", "ethernet", "--xml", width=120)
    assert libhook(host, "devices", "ethernet", "--xml").err == ""


def test_the_next_step_of_a_guest_that_has_the_device(host: Host) -> None:
    """Nothing is left to paste. No command has a name that a shell takes for something else."""
    folder = Path(host.root, "etc/libvirt/qemu")
    folder.mkdir(parents=True)
    (folder / "card.xml").write_bytes(guest(NIC, name="card").xml())
    (folder / "odd.xml").write_bytes(guest(DISK, name="$(odd)").xml().replace(b"<uuid>c", b"<uuid>d"))
    assert _next(host, "ethernet") == ["next: libhook plan card says what its start would do, or why not"]
    assert _next(host, "nvme") == ["next: libhook plan GUEST says what to do about what is in the way"]
    host.libvirt.start(guest(NIC, name="card"))
    assert _next(host, "ethernet") == ["next: libhook status shows what the guest card has"]


def test_foreign_text_is_neither_obeyed_nor_parsed(root: str) -> None:
    """Neither as escape sequences, nor as the markup and emoji codes of what draws."""
    name = "[red]a\x9b2J :smile: [nonsense] \\[b]"
    host = Host(root, workstation())
    assert host.libvirt.start(guest(GPU, SOUND, name=name)).error == ""
    for command in ("devices", "status"):
        seen = _COLOUR.sub("", _seen(host, command, width=200))
        assert "[red]a\\x9b2J :smile: [nonsense] \\[b]" in seen
        assert not {"\x1b", "\x9b"} & set(seen)


def test_the_console_is_thought_of(root: str) -> None:
    """It is in nobody's way, and yet a reader shall know that the screen goes dark."""
    host = Host(root, nvidia(console=True))
    Path(root, "sys/bus/pci/devices", GPU, "boot_vga").write_text("1\n")
    shown = libhook(host, "devices", "gpu").out.splitlines()
    assert shown[2].endswith("[shows the console (fb0), shows the firmware's screen]")
    assert shown[-1] == (
        f"  can be passed, both together; mind: {GPU} shows the console (fb0) and the firmware's screen"
    )
    Path(root, "sys/class/vtconsole/vtcon1/bind").write_text("0\n")
    assert "console" not in libhook(host, "devices").out


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
        ("13", "there is no IOMMU group 13; there are 12, 14, 15: "),
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
    done = libhook(Host(root, nic()), "devices", "--xml")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("libhook devices --xml needs a word: ")


def test_the_xml_of_a_vf_is_its_own(root: str) -> None:
    """Not that of the group in which its PF is."""
    out = libhook(Host(root, sriov()), "devices", "01:10.4", "--xml").out
    assert "<address domain='0x0000' bus='0x01' slot='0x10' function='0x4'/>" in out
    assert out.count("<hostdev") == 1


def test_a_guest_whose_configuration_has_the_device_is_named(host: Host) -> None:
    """Also while it does not run."""
    folder = Path(host.root, "etc/libvirt/qemu")
    folder.mkdir(parents=True)
    (folder / "nas.xml").write_bytes(guest(DISK, name="nas").xml())
    (folder / "old.xml").write_bytes(guest(DISK, name="old").xml().replace(b"<uuid>c", b"<uuid>d"))
    assert "[in the configuration of nas and old, /dev/nvme0n1 is mounted on /data]" in libhook(host, "devices").out


def test_without_an_iommu_nothing_can_be_passed(root: str) -> None:
    """And what turns it on is said."""
    world = nic()._replace(iommu=False, devices=(nic().devices[0]._replace(group=None),))
    lines = libhook(Host(root, world), "devices").out.splitlines()
    assert lines[0] == "no IOMMU group"
    assert lines[-1].startswith("  nothing can be passed: the IOMMU is off: turn it on in the firmware")
