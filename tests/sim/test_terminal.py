# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees at a terminal: the same facts as in a pipe, in colours, and within its width."""

import os
import re
from pathlib import Path

import pytest
from at_terminal import COLOUR, desktop, typed
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from mounting import MOUNTS, mount
from scenario import Host, guest

from libhook.simulation.hosts import nic, workstation

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from libhook.cli import main; main()"


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    return desktop(root)


@pytest.mark.parametrize("width", [40, 60, 69, 70, 80, 120])
@pytest.mark.parametrize("command", [("devices",), ("plan", "win11.xml"), ("status",), ("doctor",), ("config",)])
def test_no_line_is_wider_than_the_terminal(host: Host, width: int, command: tuple[str, ...]) -> None:
    """So that the terminal breaks no word."""
    host.libvirt.start(guest(NIC))
    path = Path(host.root, "win11.xml")
    path.write_bytes(guest(NIC, GPU).xml())
    words = (str(path) if word == path.name else word for word in command)
    lines = COLOUR.sub("", typed(host, *words, width=width)).splitlines()
    assert lines
    if command == ("doctor",):
        lines.pop()  # what is wrong, on stderr
    assert [line for line in lines if len(line) > width and not line.startswith(("mkdir ", "systemctl "))] == []


@pytest.mark.parametrize("width", [40, 80, 132])
def test_a_command_to_paste_is_whole(host: Host, width: int) -> None:
    """It begins a line, and no line feed is in it, however narrow the terminal."""
    path = Path(host.root, "win11.xml")
    path.write_bytes(guest(GPU).xml())
    lines = COLOUR.sub("", typed(host, "plan", str(path), width=width)).splitlines()
    (command,) = [line for line in lines if line.startswith("cat ")]
    assert f"run: {command}" in libhook(host, "plan", str(path)).out


def test_what_wraps_is_no_new_entry(host: Host) -> None:
    """It stands further right than the entry, and than its details."""
    lines = COLOUR.sub("", typed(host, "plan", _xml(host, NIC), width=60)).splitlines()
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
    *_, last = typed(host, "handlers", width=width).splitlines()
    assert last.endswith("libhook handlers enable night")
    assert last.startswith("libhook" if width == 44 else "night  not enabled  ")


@pytest.mark.parametrize("width", [40, 120])
def test_a_terminal_has_all_that_a_pipe_has(host: Host, width: int) -> None:
    """Each word of it, as a table or as cards."""
    shown = "".join(COLOUR.sub("", typed(host, "devices", width=width)).split())
    for word in re.split(r"\s+|(?<=\S), |[][]", libhook(host, "devices").out):
        assert word in shown


def test_what_matters_has_a_colour(host: Host) -> None:
    """What may be passed is green, what is in the way red; a refusal is red, and stands there once."""
    lines = typed(host, "devices", width=120).splitlines()
    assert [line for line in lines if line.startswith("\x1b[32m  can be passed")] != []
    (line,) = (line for line in lines if "pass both together; in the way: " in line)
    assert line.startswith("\x1b[31m")
    plan = typed(host, "plan", _xml(host, GPU, SOUND), width=200)
    assert plan.startswith("\x1b[1;31mrefuse:\x1b[0m ")
    assert plan.count("is in use by the host: it is open in Xorg") == 1
    doctor = typed(host, "doctor", width=200)
    assert "\x1b[1;31mfail\x1b[0m  libhook's hook is not in /etc/libvirt/hooks" in doctor
    assert "\x1b[32mok  \x1b[" in doctor


@pytest.mark.parametrize("width", [40, 80, 90, 200])
def test_no_line_ends_in_spaces(host: Host, width: int) -> None:
    """Whoever copies a line gets no more than is seen."""
    lines = COLOUR.sub("", typed(host, "devices", width=width)).splitlines()
    assert [line for line in lines if line.endswith(" ")] == []


def test_a_plan_at_a_terminal_ends_in_a_verdict(host: Host) -> None:
    """With the command that starts a guest that libvirt knows. Where something is refused, that is the verdict."""
    folder = Path(host.root, "etc/libvirt/qemu")
    folder.mkdir(parents=True)
    (folder / "card.xml").write_bytes(guest(NIC, name="card").xml())
    assert _last(host, "plan", "card") == "the start would not be refused: virsh start card"
    assert _last(host, "plan", _xml(host, NIC)) == "the start would not be refused"
    other = Path(host.root, "other.xml")  # virsh would not start what this file says
    other.write_bytes(Path(f"{host.root}/etc/libvirt/qemu/card.xml").read_bytes())
    assert _last(host, "plan", str(other)) == "the start would not be refused"
    assert "not be refused" not in libhook(host, "plan", "card").out
    assert "not be refused" not in typed(host, "plan", "card", "--event", "release")
    assert "not be refused" not in typed(host, "plan", _xml(host, GPU), width=200)
    host.libvirt.start(guest(NIC, name="card"))
    assert _last(host, "plan", "card") == "the start would not be refused"


def test_a_verdict_that_depends_says_so(root: str) -> None:
    """Here on an unmounting, which may fail."""
    host = Host(root, workstation(), MOUNTS)
    mount(root)
    said = "the start checks more, and may then be refused: see the lines that begin with refuse unless"
    assert _last(host, "plan", _xml(host, DISK)) == said


def _last(host: Host, *words: str) -> str:
    return COLOUR.sub("", typed(host, *words, width=200)).splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may watch")
def test_without_libvirts_module_nothing_is_said_to_be_watched(host: Host) -> None:
    """It says what is missing, and nothing before."""
    seen = typed(host, "watch", program=("-c", WITHOUT_RICH.replace("rich", "libvirt")))
    assert seen.startswith("the module libvirt is missing: install python3-libvirt")


def _xml(host: Host, *addresses: str) -> str:
    path = Path(host.root, "guest.xml")
    path.write_bytes(guest(*addresses).xml())
    return str(path)


def test_no_color_is_heeded(host: Host) -> None:
    """No colour is left."""
    assert "\x1b[3" not in typed(host, "devices", NO_COLOR="1")


@pytest.mark.parametrize("how", ["dumb", "no rich"])
@pytest.mark.parametrize("command", ["devices", "plan", "status", "doctor"])
def test_without_rich_and_on_a_dumb_terminal_it_is_plain(host: Host, how: str, command: str) -> None:
    """The lines of a pipe."""
    words = (command, *((_xml(host, NIC),) if command == "plan" else ()))
    seen = typed(host, *words, TERM="dumb") if how == "dumb" else typed(host, *words, program=("-c", WITHOUT_RICH))
    assert "\x1b" not in seen
    assert seen.startswith(libhook(host, *words, names=True).out)


def test_foreign_text_is_neither_obeyed_nor_parsed(root: str) -> None:
    """Neither as escape sequences, nor as the markup and emoji codes of what draws."""
    name = "[red]a\x9b2J :smile: [nonsense] \\[b]"
    host = Host(root, workstation())
    assert host.libvirt.start(guest(GPU, SOUND, name=name)).error == ""
    for command in ("devices", "status"):
        seen = COLOUR.sub("", typed(host, command, width=200))
        assert "[red]a\\x9b2J :smile: [nonsense] \\[b]" in seen
        assert not {"\x1b", "\x9b"} & set(seen)


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
