# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who had which device from when to when: a log on the one side, the entries that are told of it on the other."""

import heapq
import itertools
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trail_writing import BEGIN, OTHER, PLACES, UUID, Trail, log_of, read, told

from libhook.facts.domain import Domain, Extra, HostDevice
from libhook.handlers.record import text
from libhook.history.entry import Entry

SHORT = {device: name or "1" for name, (_, device) in PLACES.items()}


def _told(*logs: Trail | bytes) -> list[str]:
    """Each entry: device, how it began and ended, from when to when, the result, who wrote it; whether they differ."""
    lines = []
    for entry in told(*logs):
        who = "+".join({"libvirtd": "virt", "libhook": "hook"}.get(one, one) for one in entry["recorded_by"])
        how = f"{entry['began'] or '?'}-{entry['ended'] or '?'}"
        when, till = ("?" if entry[key] is None else f"{entry[key]:g}" for key in ("from", "to"))
        result = f"{entry['result']} {who}{' differ' if entry['disagree'] else ''}"
        lines.append(f"{SHORT.get(entry['device'], entry['device'])} {how} {when}-{till} {result}")
    return lines


START, STOP = "hook:start virt:start guest:start", "hook:stop guest:stop"
START2 = "hook:start@2 virt:start@2 guest:start"
IN_AND_OUT = "virt:attach hook:attach virt:detach hook:detach"
STORIES = {
    "what libvirtd says before ours, or not at all, is of the same start": (
        f"virt:start guest:start hook:start hook:start@2 {STOP}",
        ["1 start-stop 1-5 success virt+hook", "2 start-stop 4-6 success hook"],
    ),
    "a late word is of the start before, if it is nearer": (
        "virt:start guest:start hook:start@2 virt:start+3600 guest:start",
        ["1 start-? 1-3603 success virt", "2 start-? 3-3603 success hook", "1 start-? 3603-? success virt"],
    ),
    "a late word is of the start after, if it is nearer": (
        "virt:start guest:start hook:start@2+3600 virt:start guest:start",
        ["1 start-? 1-3602 success virt", "2 start-? 3602-? success hook", "1 start-? 3603-? success virt"],
    ),
    "where libvirtd alone writes, its word of the guest ends all": (
        "virt:start virt:start@2 guest:start guest:stop",
        ["1 start-stop 1-4 success virt", "2 start-stop 2-4 success virt"],
    ),
    "virtqemud is libvirtd": ("qemud:start guest:start guest:stop", ["1 start-stop 1-3 success virt"]),
    "libhook alone may write, as of an NVMe disk": ("hook:start hook:stop", ["1 start-stop 1-2 success hook"]),
    "libvirtd tells the truth of a failed start of the guest alone": (
        "virt:start guest:start!", ["1 start-? 1-1 failed virt"]
    ),
    "only the device that failed is contradicted": (
        "hook:start! virt:start virt:start@2 guest:start!",
        ["1 start-? 1-1 failed virt+hook differ", "2 start-? 3-3 failed virt"],
    ),
    "a start that failed after the guest had it ends with ours, and nothing opens anew": (
        "hook:start hook:stop virt:start guest:start!", ["1 start-stop 1-2 success virt+hook"]
    ),
    "a start that failed is over where no stop says so": (
        "hook:start virt:start guest:start!", ["1 start-stop 1-3 success virt+hook differ"]
    ),
    "the next try is another entry": (
        f"hook:start! virt:start guest:start! {START} {STOP}",
        ["1 start-? 1-1 failed virt+hook differ", "1 start-stop 4-7 success virt+hook"],
    ),
    "each hot-plug that failed is one, though a driver was slow": (
        f"{START2} virt:attach! hook:attach!+29 hook:attach!+60",
        ["2 start-? 1-? success virt+hook", "1 attach-? 4-4 failed virt+hook", "1 attach-? 93-93 failed hook"],
    ),
    "in and out again before the watch could write; the next time is another": (
        "guest:start virt:attach virt:detach hook:attach hook:detach virt:attach hook:attach",
        ["1 attach-detach 2-3 success virt+hook", "1 attach-? 6-? success virt+hook"],
    ),
    "after a refusal of ours it is another try": (
        "hook:attach! virt:attach", ["1 attach-? 1-1 failed hook", "1 attach-? 2-? success virt"]
    ),
    "of a hot-plug of which they differ, libvirtd tells the truth": (
        "virt:attach hook:attach!", ["1 attach-? 1-? success virt+hook differ"]
    ),
    "a detach that failed ends nothing": (f"{START} virt:detach! {STOP}", ["1 start-stop 1-5 success virt+hook"]),
    "what was plugged in ends with its guest": (
        "guest:start virt:attach guest:stop", ["1 attach-stop 2-3 success virt"]
    ),
    "a host that boots has no guest": (f"{START} boot", ["1 start-? 1-4 success virt+hook"]),
    "a guest that starts again had ended, how is unknown": (
        f"{START} virt:attach@2 {START}",
        ["1 start-? 1-5 success virt+hook", "2 attach-? 4-5 success virt", "1 start-? 5-? success virt+hook"],
    ),
    "a guest that starts again without libvirtd's words": (
        "hook:start hook:start@2 hook:start@3+3600 hook:start hook:stop",
        ["1 start-? 1-3602 success hook", "2 start-? 2-3602 success hook", "3 start-? 3602-? success hook",
         "1 start-stop 3603-3604 success hook"],
    ),
    "a start that may have failed does not prove that another has the device no more": (
        f"{START} virt:start&", ["1 start-? 1-? success virt+hook", "1 start-? 4-? success virt"]
    ),
    "a PCI device is held by the last that got it": (
        f"{START} virt:start& guest:start&", ["1 start-? 1-4 success virt+hook", "1 start-? 4-? success virt"]
    ),
    "a late give-back is no entry": (f"{START} guest:stop hook:stop+86400", ["1 start-stop 1-4 success virt+hook"]),
    "what began before the trail is not lost": (STOP, ["1 ?-stop ?-1 success hook"]),
    "what began in a silence is another's, by libvirtd": (
        f"guest:start {IN_AND_OUT} END START+600 virt:detach",
        ["1 ?-detach ?-607 success virt", "1 attach-detach 2-4 success virt+hook"],
    ),
    "what began in a silence is another's, by libhook": (
        f"guest:start {IN_AND_OUT} END START+600 hook:detach",
        ["1 ?-detach ?-607 success hook", "1 attach-detach 2-4 success virt+hook"],
    ),
    "libvirtd is never late": (
        "guest:start virt:attach virt:detach virt:detach+600",
        ["1 ?-detach ?-603 success virt", "1 attach-detach 2-3 success virt"],
    ),
    "libhook's late word of a detach is no entry": (
        "guest:start virt:attach hook:attach virt:detach hook:detach+600", ["1 attach-detach 2-4 success virt+hook"]
    ),
    "a clock that was set back does not turn a failure into success": (
        "guest:start+3600 guest:stop hook:start!-1800 virt:start guest:start!",
        ["1 start-? 1801-1801 failed virt+hook differ"],
    ),
    "nor hides which USB device libvirtd did not find": (
        "guest:start+3600 guest:stop hook:start@usb-1800 virt:start@none guest:start",
        ["usb start-? 1801-? success virt+hook"],
    ),
    "a USB device that libvirtd did not find is the one that ours names": (
        "hook:start!@usb virt:start@none guest:start!", ["usb start-? 1-1 failed virt+hook differ"]
    ),
    "two that libvirtd did not find cannot be told apart": (
        "hook:start!@usb hook:start!@usb3 virt:start@none virt:start@none guest:start!",
        ["usb start-? 1-1 failed hook", "usb3 start-? 2-2 failed hook",
         "none start-? 3-3 failed virt", "none start-? 4-4 failed virt"],
    ),
    "devices written alike are counted": (
        "guest:start virt:attach@redir virt:attach@redir virt:detach@redir",
        ["redir attach-detach 2-4 success virt", "redir attach-? 3-? success virt"],
    ),
    "who else wrote is told by the executable": ("other:start", ["1 start-? 1-? success /opt/a b"]),
}  # fmt: skip


@pytest.mark.parametrize(("records", "entries"), STORIES.values(), ids=STORIES)
def test_who_had_what(records: str, entries: list[str]) -> None:
    """The entries that are told of a log, oldest first."""
    assert _told(log_of(records)) == entries


def test_each_promised_key_is_there_in_its_order() -> None:
    """Our record and libvirtd's of a start are one entry, which ends with ours."""
    (entry,) = told(log_of(f"{START} {STOP}"))
    assert list(entry.items()) == [
        ("entry", "1795545001.000:11"), ("device", "0000:01:00.0"), ("bus", "pci"), ("vm", "win11"), ("uuid", UUID),
        ("began", "start"), ("ended", "stop"), ("from", 1), ("to", 4), ("known_until", None), ("result", "success"),
        ("recorded_by", ["libvirtd", "libhook"]), ("disagree", False), ("node", None), ("ids", None), ("vendor", None),
        ("model", None), ("ids_from", None),
    ]  # fmt: skip


@pytest.mark.parametrize(("end", "unreturned"), [("", True), ("hook:stop+86400", False)], ids=["failed", "back later"])
def test_a_stop_that_failed_is_an_end(end: str, unreturned: bool) -> None:
    """The guest has it no more; that the host has it neither is kept beside, until it is given back."""
    (entry,) = read([bytes(log_of(f"{START} hook:stop! guest:stop {end}"))])[0]
    assert (entry.ended, entry.unreturned) == ("stop", unreturned)


BEGUN = "virt:start guest:start hook:start"


@pytest.mark.parametrize(
    ("records", "numbers"),
    [
        (BEGUN, (11, 14)), (f"{BEGUN} hook:stop", (11, 15)), (f"{BEGUN} guest:stop login", (11, 15)),
        (f"{BEGUN} guest:stop hook:stop", (11, 16)), ("hook:start! virt:start", (11, 12)),
        ("virt:start guest:start!", (11, 13)), ("virt:attach hook:attach hook:detach", (11, 13)),
        ("login hook:stop", (12, 12)), (f"{BEGUN} boot", (11, 14)),
    ],
)  # fmt: skip
def test_the_last_record_is_known(records: str, numbers: tuple[int, int]) -> None:
    """Between an entry's first and last number lie its records, whoever wrote them; a boot says nothing of a device."""
    ((entry,), _, _) = read([bytes(log_of(records))])
    assert (entry.serial, entry.last) == numbers


CARD, OLD = "1002:747e", "8086:10d3"


@pytest.mark.parametrize(
    ("records", "ids"),
    [
        (f"virt:start hook:start={CARD}", CARD), (f"hook:start={CARD} virt:start", CARD),
        (f"hook:start hook:stop={CARD}", CARD), (f"hook:stop={CARD}", CARD), (f"hook:start={CARD} guest:stop", CARD),
        (f"virt:start guest:stop hook:stop={CARD}", CARD), (f"other:start={OLD} hook:start={CARD}", CARD),
        (f"hook:start={CARD} other:start={OLD}", CARD), (f"hook:start={CARD} other:stop={OLD}", CARD),
        (f"other:start={OLD} virt:start", OLD), (f"hook:start!={CARD} virt:start", CARD),
        (f"virt:attach hook:attach!={CARD}", CARD), (f"virt:start@none hook:start@usb={OLD} guest:start", OLD),
        *((f"hook:start={no}", "") for no in ("x", "8086:10D3", "\x1b[31m", "8086", "\u0668\u0660\u0668\u0666:10d3")),
    ],
)  # fmt: skip
def test_any_record_may_say_the_ids(records: str, ids: str) -> None:
    """The first or the last; where two differ, libhook's word counts. What cannot be ids is none, whoever wrote it."""
    assert _ids(log_of(records)) == [ids]


def _ids(log: Trail) -> list[str]:
    return [entry.ids for entry in read([bytes(log)])[0]]


def test_ids_are_read_wherever_they_stand() -> None:
    """As record.py writes them, whichever are known, in the first text too, and where it is laid out otherwise."""
    for extra in (Extra(ids=CARD), Extra("vfio pci", "", CARD), Extra("", "7", CARD), Extra("(none)", "7", CARD)):
        device = HostDevice("pci", "hostdev", False, "0000:01:00.0", None, extra=extra)
        said = text(Domain("win11", UUID, "kvm", ()), device, "start", extra=True)
        assert _ids(Trail().message("VIRT_RESOURCE", said, "libhook", True, 1000)) == [CARD]
    assert _ids(Trail().device("libhook", "start", style="2011", ids=CARD)) == [CARD]
    assert [_ids(Trail().device("libhook", "start", ids=f"{OLD}{end}")) for end in " \n"] == [[""], [""]]
    about = f'vm="win11" uuid={UUID} bus=pci device="0000:01:00.0" new=1 device-id="{CARD}"'
    log = Trail().message("VIRT_RESOURCE", f"virt=kvm resrc=dev reason=start {about}", "libhook", True, 1000)
    log.device("libhook", "start", uuid=OTHER, device="x")
    assert _ids(log) == [CARD, ""]
    assert [entry["recorded_by"] for entry in told(log)] == [["libhook"]] * 2


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
