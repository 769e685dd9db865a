# SPDX-License-Identifier: LGPL-2.1-or-later
"""A driver hangs with the lock of its device: what is read of a device, and by whom."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from types import FrameType
from unittest import mock

import pytest
from cases import DISK, GPU, NIC, SOUND
from command import libhook
from modules_out import ALL
from scenario import Host, guest

from libhook import testing
from libhook.children.child import Deadline
from libhook.command.parsing import parser
from libhook.facts.address import PciAddress
from libhook.look import attributes, sysfs
from libhook.simulation import store
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nvidia, sriov
from libhook.simulation.sleepers import SleepingReads, locked
from libhook.simulation.world import USB, Device, Driver, World

ROOT = Path(__file__).parents[2]
VF, HUB = "0000:01:10.0", "0000:06:00.0"
SECONDS = (3, 12, 48)
"""The deadline of all that waits for a device; the longer ones where the machine is so busy that others were late."""
LIMIT = 300
"""For a command on a busy machine."""
PACKAGE = attributes.__file__.removesuffix("look/attributes.py")
MADE_UP = ("simulation/", "testing/")
"""What plays the machine opens its files as it likes."""
NO_DEVICE = {
    "sys/fs/cgroup/*": "control groups: cgroup_file_open() and the show functions know no device",
    "sys/fs/selinux/*": "the policy's own files",
}
"""What else is read below /sys without a child."""
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "inspect": (("GUEST",), ("GUEST", "--json")),
    "plan": (("GUEST",), ("GUEST", "--json"), ("GUEST", "--event", "release")),
    "devices": ((), ("--json",), ("gpu",), ("sound", "--xml")),
    "status": ((), ("--json",)),
    "recover": (("--dry-run",), ()),
    "accept": (("GUEST", "--dry-run"),),
    "history": ((), ("--json",)),
    "config": ((), ("GUEST",)),
    "handlers": ((),),
    "doctor": ((),),
}
"""The commands, and how each is called here."""
ELSEWHERE = {
    "attach": "below, with a libvirtd",
    "detach": "below, with a libvirtd",
    "watch": "not played: at a hot-plug it does what attach and detach do",
    "demo": "has a host of its own",
    "hook": "each event is played",
}
"""The other commands, and where they are."""


class Opened:
    """The files that this process, and no child of it, has opened below a folder, and who did: file and function."""

    def __init__(self) -> None:
        """Nothing is noted before ``below``."""
        self._process, self._folder = os.getpid(), ""
        self.seen: dict[str, tuple[str, str]] = {}
        sys.addaudithook(self._hear)

    @contextmanager
    def below(self, folder: str) -> Iterator[dict[str, tuple[str, str]]]:
        """Note them inside this ``with``."""
        self._folder, self.seen = f"{folder}/", {}
        yield self.seen
        self._folder = ""

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not self._folder or os.getpid() != self._process:
            return
        path = arguments[0]
        if isinstance(path, str) and path.startswith((f"{self._folder}sys/", f"{self._folder}dev/")):
            name, function = _who(sys._getframe(1))
            if name and not name.startswith(MADE_UP):
                self.seen[path.removeprefix(self._folder)] = name, function


def _who(frame: FrameType | None) -> tuple[str, str]:
    """The file of libhook that opens, and its function; of the functions that read for others, who is behind them."""
    while frame:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE) and frame.f_code.co_name not in ("text", "whole"):
            return name.removeprefix(PACKAGE), frame.f_code.co_name
        frame = frame.f_back
    return "", ""


@pytest.fixture(scope="module")
def opened() -> Opened:
    """An audit hook stays for as long as the process lives, so there is one."""
    return Opened()


def _crowded() -> World:
    """A host with all that libhook reads of devices: VFs, a disk that is mapped, a console, USB devices."""
    base, cards = nvidia(console=True), sriov(2)
    ours = {one.address: one for one in base.devices if one.address != NIC}
    ours[DISK] = ours[DISK]._replace(serial="S1")
    usb = Device(HUB, "xhci_hcd", 60, USB, "1b73:1100", children=(("usb_device", "001.004"),))
    drivers = tuple(dict.fromkeys((*base.drivers, *cards.drivers, Driver("xhci_hcd", ids=("1b73:1100",)))))
    return base._replace(devices=(*ours.values(), *cards.devices, usb), drivers=drivers)


@pytest.fixture
def crowded(root: str) -> Host:
    """That host, with a disk that is mapped and mounted."""
    host = Host(root, _crowded(), _settings(SECONDS[-1]))
    folder = f"{root}/sys/class/block"
    os.makedirs(f"{root}/simulation/claimed")
    os.makedirs(f"{folder}/nvme0n1/holders/dm-0")
    os.makedirs(f"{folder}/dm-0/dm")
    for path, text in (("dm/name", "vg-root"), ("dev", "253:0")):
        Path(f"{folder}/dm-0/{path}").write_text(f"{text}\n")
    with open(f"{root}/proc/self/mountinfo", "a") as mounts:
        mounts.write("41 22 253:0 / /srv rw - xfs /dev/mapper/vg-root rw\n")
    store.create(f"{root}/simulation/claimed/nvme0n1", "EBUSY")
    for name, text in (("idVendor", "046d"), ("idProduct", "c52b")):
        Path(f"{root}/sys/bus/usb/devices/1-4/{name}").write_text(f"{text}\n")
    Path(root, "guest.xml").write_bytes(guest(GPU, SOUND).xml(1, prepared=False))
    return host


def _settings(seconds: int) -> str:
    return f"write_deadline = {seconds}\nholder_wait = 0.3\n[audit]\nextra = true\n[domains.win11]\n{ALL}"


def _calls(host: Host) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The arguments of each call by its words in COMMANDS."""
    stands = {"GUEST": f"{host.root}/guest.xml"}
    calls = ((name, *words) for name, calls in COMMANDS.items() for words in calls)
    return {words: tuple(stands.get(word, word) for word in words) for words in calls}


def test_every_command_is_called_here() -> None:
    """A new one is called here, too."""
    (named,) = (action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert set(named) == COMMANDS.keys() | ELSEWHERE.keys()


def test_what_is_read_of_a_device_without_a_child(crowded: Host, opened: Opened) -> None:
    """Only what takes no lock, as the list says; and each file that is in the list is read.

    Lives of guests with devices of all kinds, hot-plug, and each command.
    """
    stick = "<source><vendor id='0x046d'/><product id='0xc52b'/><address bus='1' device='4'/></source>"
    disk = Guest("third", (DISK,), elements=f"<hostdev mode='subsystem' type='usb'>{stick}</hostdev>")
    other = Guest("other", (VF,))
    with opened.below(crowded.root) as seen:
        assert crowded.event(disk, "prepare").code == 1
        crowded.begin(guest(GPU, SOUND))
        testing.attach(HUB, other, crowded)
        for words in _calls(crowded).values():
            libhook(crowded, *words)
        testing.detach(HUB, other, crowded)
        crowded.event(guest(GPU, SOUND), "release", "shutdown")
    read = {path: who for path, who in seen.items() if not any(fnmatchcase(path, one) for one in NO_DEVICE)}
    assert {path: who for path, who in read.items() if who != ("look/attributes.py", "plain")} == {}
    known = {name.rpartition("/")[2] for name in attributes.PLAIN}
    assert {path.rpartition("/")[2] for path in read} == known


def _not_in_the_list(root: str) -> list[str]:
    """Every file of a device that is not in the list."""
    plain = {name.rpartition("/")[2] for name in attributes.PLAIN}
    folders = (f"{root}/sys/devices", f"{root}/sys/class")
    found = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return [str(path) for path in found if path.name not in plain]


def _said(host: Host, calls: Mapping[tuple[str, ...], tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What these calls print, side by side. Of JSON only what is on stdout, where it stands alone."""
    environment = {"LIBHOOK_ROOT": host.root, "PATH": "/usr/bin:/bin"}
    at_work = {
        words: subprocess.Popen(
            (sys.executable, "-m", "libhook", *arguments), cwd=ROOT, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for words, arguments in calls.items()
    }  # fmt: skip
    try:
        told = {words: process.communicate(timeout=LIMIT) for words, process in at_work.items()}
        return {words: out if "--json" in words else out + err for words, (out, err) in told.items()}
    finally:
        for process in at_work.values():
            process.kill()
            process.communicate()


def _said_of(
    host: Host, calls: Mapping[tuple[str, ...], tuple[str, ...]], silent: set[str], patience: Sequence[int] = SECONDS
) -> dict[tuple[str, ...], str]:
    """What they print. Only these devices do not answer: whoever else is late is given more time, and then fails."""
    for seconds in patience:
        host.configure(_settings(seconds))
        said = _said(host, calls)
        found = _silent(said)
        if found == (silent, silent):
            break
    assert found == (silent, silent)
    return said


def _silent(said: Mapping[tuple[str, ...], str]) -> tuple[set[str], set[str]]:
    """Which devices ``libhook devices`` says do not answer: as text, and as JSON."""
    lines = (line.replace("VF ", "").split() for line in said["devices",].splitlines() if "does not answer" in line)
    shown = {words[0] for words in lines if words[0].startswith("0000:")}
    groups = json.loads(said["devices", "--json"])["groups"]
    return shown, {one["address"] for group in groups for one in group["devices"] if one["hangs"]}


def test_every_command_answers_where_no_file_does(crowded: Host) -> None:
    """Where a read of any other file sleeps in the kernel: names are shown, and which devices do not answer."""
    crowded.begin(guest(GPU, SOUND))
    with SleepingReads(crowded.root, *_not_in_the_list(crowded.root)):
        said = _said_of(crowded, _calls(crowded), set(os.listdir(f"{crowded.root}/sys/bus/pci/devices")))
    (line,) = (line for line in said["status",].splitlines() if line.startswith(f"  pci {GPU} "))
    assert (f"{GPU} (NVIDIA GeForce RTX 4090 [10de:2684])" in line, line.endswith("[does not answer]")) == (True, True)
    device = json.loads(said["status", "--json"])["guests"][0]["devices"][0]
    assert (device["address"], device["model"], device["hangs"]) == (GPU, "AD102 [GeForce RTX 4090]", True)
    assert "NVIDIA GeForce RTX 4090" in said["devices",]
    assert f"{GPU} does not answer" in said["plan", "GUEST"]


def test_what_hangs_below_a_device_that_answers(crowded: Host) -> None:
    """Its driver has made something that does not answer: the device is said not to. No other is."""
    own = ("/driver_override", "/sriov_numvfs")
    files = [path for path in _not_in_the_list(crowded.root) if not path.endswith(own)]
    with SleepingReads(crowded.root, *files):
        calls = {words: arguments for words, arguments in _calls(crowded).items() if words[0] in ("devices", "plan")}
        said = _said_of(crowded, calls, {GPU, DISK, HUB}, SECONDS[1:])
    assert f"{GPU} hangs: its nodes cannot be listed" in said["plan", "GUEST"]


def _silent_within(host: Host, addresses: Sequence[PciAddress], seconds: float) -> AbstractSet[PciAddress]:
    """Which of these do not answer, where each has so many seconds."""
    with mock.patch.object(sysfs, "_PATIENCE", seconds):
        return sysfs.silent(host.machine, addresses, Deadline.after(LIMIT))


def test_a_pf_whose_override_answers(crowded: Host) -> None:
    """Newer kernels keep the override under a lock of its own: that a PF hangs, its number of VFs tells."""
    pf = os.path.basename(os.path.realpath(f"{crowded.root}/sys/bus/pci/devices/{VF}/physfn"))
    Path(crowded.root, "pf.xml").write_bytes(guest(pf).xml(1, prepared=False))
    calls: dict[tuple[str, ...], tuple[str, ...]] = {
        ("devices",): ("devices",),
        ("devices", "--json"): ("devices", "--json"),
        ("plan",): ("plan", f"{crowded.root}/pf.xml"),
    }
    with SleepingReads(crowded.root, f"{crowded.root}/sys/bus/pci/devices/{pf}/sriov_numvfs"):
        # two seconds are for the PF, and half of the rest for all nodes
        said = _said_of(crowded, calls, {pf}, SECONDS[1:])
        both = [PciAddress.parse(one) for one in (pf, VF)]
        assert any(_silent_within(crowded, both, seconds) == set(both[:1]) for seconds in SECONDS)
    assert f"{pf} does not answer" in said["plan",]


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("managed", [False, True])
def test_a_vf_whose_own_lock_is_held(root: str, runs: bool, managed: bool) -> None:
    """``plan`` ends with the one line, also with --json. ``inspect`` reads nothing that takes a lock, and shows all."""
    host, one = Host(root, sriov(2), "write_deadline = 3\n"), guest(VF, managed=managed)
    Path(root, "guest.xml").write_bytes(one.xml(1, prepared=False))
    if runs:
        assert host.libvirt.start(one).error == ""
    home = os.path.realpath(f"{root}/sys/bus/pci/devices/{VF}").removeprefix(f"{root}/sys/")
    with locked(root, home):
        planned = [_apart(root, "plan", *words) for words in ((), ("--json",))]
        shown = _apart(root, "inspect", "--json")
    line = f"{VF} does not answer: see what the kernel says of it: journalctl -k -b -g {VF[:-2]}, or dmesg\n"
    assert planned == [(1, "", line)] * 2
    assert (shown[0], json.loads(shown[1])["host_devices"][0]["address"], shown[2]) == (0, VF, "")


def _apart(root: str, *words: str) -> tuple[int, str, str]:
    """The command's exit code, stdout and stderr, in a process of its own: its children that hang stay behind."""
    command = (sys.executable, "-m", "libhook", *words, f"{root}/guest.xml")
    environment = {"LIBHOOK_ROOT": root, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
    )
    return done.returncode, done.stdout, done.stderr
