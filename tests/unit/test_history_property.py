# SPDX-License-Identifier: LGPL-2.1-or-later
"""A true history, written down as libvirtd and libhook would, rotated and from two hosts, is read back as it was."""

import heapq
import itertools
from typing import NamedTuple
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from trail_writing import BEGIN, Trail, read

from libhook.history.entry import Entry

DEVICES = (("pci", "0000:01:00.0"), ("pci", "0000:02:00.0"), ("usb", "001.002"), ("scsi", "a b"))
WRITERS = (("libvirtd",), ("libhook",), ("libvirtd", "libhook"))
names = st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\0", b"0").decode("utf-8", "surrogateescape"))


class Held(NamedTuple):
    """What the model knows of a device that a guest has."""

    began: str
    start: int
    writers: tuple[str, ...]


class Host:
    """A host that really has guests, and writes its trail; what is true is kept beside."""

    def __init__(self, node: str, vms: list[str], offset: int, ids: dict[tuple[str, str], str]) -> None:
        self.trail = Trail(node, now=BEGIN + offset)
        self.node, self.vms, self.ids = node, vms, ids
        self.writers: dict[int, tuple[str, ...]] = {}
        self.held: dict[int, dict[tuple[str, str], Held]] = {}
        self.true: list[Entry] = []

    def uuid(self, guest: int) -> str:
        """Of a guest, which may have the name of another."""
        return f"00000000-0000-4000-8000-{guest:012d}"

    def write(self, guest: int, who: str, reason: str, device: tuple[str, str], success: bool = True) -> int:
        """A record; the time of it."""
        about = {"vm": self.vms[guest], "uuid": self.uuid(guest), "bus": device[0], "device": device[1]}
        ids = self.ids[device] if who == "libhook" else ""
        self.trail.device(who, reason, success, ids=ids, **about)  # type: ignore[arg-type]
        return self.trail.now

    def control(self, guest: int, operation: str, success: bool = True) -> int:
        """libvirtd's word of the guest."""
        self.trail.control(operation, success, vm=self.vms[guest], uuid=self.uuid(guest))
        return self.trail.now

    def entry(
        self, guest: int, device: tuple[str, str], held: Held, ended: str | None, end: int | None, **more: bool
    ) -> None:
        """It was so."""
        self.true.append(
            Entry(
                self.node, self.vms[guest], self.uuid(guest), *device, held.began, ended, held.start, end,
                more.get("success", True), tuple(sorted(held.writers, key=["libvirtd", "libhook"].index)),
                more.get("disagree", False), False, self.ids[device] if "libhook" in held.writers else "",
            )
        )  # fmt: skip

    def over(self, guest: int, ended: str | None, end: int | None) -> None:
        """The guest has nothing any more."""
        for device, held in self.held.pop(guest, {}).items():
            self.entry(guest, device, held, ended, end)

    def start(
        self, guest: int, devices: list[tuple[str, str]], writers: tuple[str, ...], fails: bool, late: bool = False
    ) -> None:
        """A start, which may fail on account of each device; a guest that ran has ended without a word.

        ``late``: libvirtd has not waited for ours.
        """
        first: dict[tuple[str, str], int] = {}
        before = self.trail.now + 1000
        if guest in self.held:
            self.over(guest, None, before)
        for who in ("libvirtd", "", "libhook") if late else ("libhook", "libvirtd", ""):
            if not who:
                self.control(guest, "start", not fails)
            elif who in writers:
                for device in devices:
                    time = self.write(guest, who, "start", device, not fails or who == "libvirtd")
                    first.setdefault(device, time)
        made = {device: Held("start", time, writers) for device, time in first.items()}
        if fails:
            for device, held in made.items():
                self.entry(guest, device, held, None, held.start, success=False, disagree=len(writers) == 2)
        else:
            self.held[guest], self.writers[guest] = made, writers

    def stop(self, guest: int) -> None:
        """Ours says so of each device, libvirtd of the guest."""
        for device, held in self.held.pop(guest).items():
            end = self.write(guest, "libhook", "stop", device) if "libhook" in held.writers else None
            # Those that only libvirtd wrote of end with its word, a second after the last of ours.
            self.held.setdefault(guest, {})
            if end is not None:
                self.entry(guest, device, held, "stop", end)
            else:
                self.held[guest][device] = held
        self.over(guest, "stop", self.control(guest, "stop"))

    def plug(self, guest: int, device: tuple[str, str], fails: bool) -> None:
        """In where it is out, out where it is in."""
        reason = "detach" if device in self.held[guest] else "attach"
        held = self.held[guest].get(device)
        writers = held.writers if held else self.writers[guest]
        times = [self.write(guest, who, reason, device, not fails) for who in ("libvirtd", "libhook") if who in writers]
        if held is None and fails:
            self.entry(guest, device, Held("attach", times[0], writers), None, times[0], success=False)
        elif held is None:
            self.held[guest][device] = Held("attach", times[0], writers)
        elif not fails:
            self.entry(guest, device, self.held[guest].pop(device), "detach", times[0])

    def boot(self) -> None:
        """The host dies and comes back."""
        self.trail.raw("SYSTEM_BOOT", "pid=1 uid=0 msg='res=success'", after=60_000)
        for guest in list(self.held):
            self.over(guest, None, self.trail.now)


def _live(host: Host, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 12))):
        guest = data.draw(st.integers(0, 1))
        runs = guest in host.held
        steps = ["start", "stop", "plug", "plug", "boot"] if runs else ["start", "start", "boot"]
        step = data.draw(st.sampled_from(steps))
        fails = data.draw(st.booleans())
        host.trail.now += data.draw(st.integers(10_000, 10_000_000))
        free = [device for device in DEVICES if fails or device not in host.held.get(1 - guest, {})]
        if step in ("start", "plug") and not free:
            continue
        if step == "start" and not (runs and fails):
            devices = data.draw(st.lists(st.sampled_from(free), unique=True, min_size=1))
            # One that is lost is noticed by the same writers: who began to write in between cannot know.
            writers = host.writers[guest] if runs else data.draw(st.sampled_from(WRITERS))
            host.start(guest, devices, writers, fails, late=not fails and data.draw(st.booleans()))
        elif step == "stop":
            host.stop(guest)
        elif step == "plug":
            host.plug(guest, data.draw(st.sampled_from(free)), fails)
        elif step == "boot":
            host.boot()


@given(
    data=st.data(),
    vms=st.lists(names, min_size=2, max_size=2),
    cut=st.lists(st.integers(0, 400), max_size=3),
    few=st.sampled_from((0, 50)),
    ids=st.fixed_dictionaries(dict.fromkeys(DEVICES, st.sampled_from(("", "8086:10d3", "10de:2684")))),
)
def test_a_true_history_is_read_back(
    data: st.DataObject, vms: list[str], cut: list[int], few: int, ids: dict[tuple[str, str], str]
) -> None:
    """Entry for entry, whatever the guests are called, wherever the log was rotated, both hosts' lines mixed; and also
    where what is known of a guest is looked up as that of a guest with very much.
    """
    hosts = [Host("a.example", vms, 0, ids), Host("b", vms[::-1], 500, ids)]
    for host in hosts:
        _live(host, data)
        for number, devices in host.held.items():
            for device, held in devices.items():
                host.entry(number, device, held, None, None)
    trails = (host.trail.lines for host in hosts)
    lines = list(heapq.merge(*trails, key=lambda line: line[line.index(b"audit(") :][:20]))
    cuts = [0, *sorted(cut), len(lines)]
    files = [b"".join(line + b"\n" for line in lines[a:b]) for a, b in itertools.pairwise(cuts) if lines[a:b]]
    with mock.patch("libhook.history.guest._FEW", few):
        entries, silences, unreadable = read(files)
    assert (silences, unreadable) == ([], 0)
    found = [entry._replace(serial=0, last=0) for entry in entries]
    assert sorted(map(repr, found)) == sorted(repr(entry) for host in hosts for entry in host.true)
