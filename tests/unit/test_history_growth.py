# SPDX-License-Identifier: LGPL-2.1-or-later
"""Four times the log takes four times as long, and no more memory than what is held: whatever others have it say."""

import gc
import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from growth import grows_with
from hypothesis import given
from hypothesis import strategies as st
from trail_writing import UUID, sources

from libhook.history import reader
from libhook.history.around import AROUND, Around
from libhook.history.entry import Entry, Silence
from libhook.history.evidence import Made
from libhook.history.guest import Guest
from libhook.history.page import Page
from libhook.history.pairing import Pairing
from libhook.history.records import DeviceRecord, GuestRecord, Parser, Record, Subject
from libhook.history.timeline import COLUMNS, Gap, Span, gaps
from libhook.history.wanted import Selection, Wanted
from libhook.naming.name import Name

SIZE = 20_000
REDIRECTED = ("usb", "USB redirdev")
UNRESOLVED = ("usb", "000.000")
Device = tuple[str, str]


def _device(
    time: int, reason: str, device: Device, who: str = "libvirtd", success: bool = True, node: str | None = None
) -> DeviceRecord:
    subject = Subject("win11", UUID, *device, f"{device[0]} {device[1]}")
    return DeviceRecord(time, node, who, reason, subject, success)


def _control(time: int, operation: str, success: bool = True) -> GuestRecord:
    return GuestRecord(time, None, operation, UUID, success)


def _pci(number: int) -> Device:
    return "pci", f"{number:04x}:00:00.0"


def _each(size: int, reason: str, **more: Any) -> list[Record]:  # noqa: ANN401 - as _device takes it
    """A guest and as many devices."""
    return [_device(number, reason, _pci(number), **more) for number in range(size)]


def _stops(size: int, after: int) -> list[Record]:
    return [_control(after + number, "stop") for number in range(size)]


def _started_twice(size: int) -> list[Record]:
    """Devices of one start, of which one is recorded again and again."""
    more = (("start", _pci(0)), ("attach", ("pci", "x")))
    again = [_device(size + number, *each, "libhook") for number in range(size) for each in more]
    return [*_each(size, "start", who="libhook"), *again]


LOGS: dict[str, Callable[[int], list[Record]]] = {
    "USB devices that a client brings along, which libvirtd writes all alike": lambda size: [
        _device(number, "attach", REDIRECTED) for number in range(size)
    ],
    "half of them go, and others come in their place": lambda size: [
        _device(number, "detach" if number > size and number % 3 else "attach", REDIRECTED)
        for number in range(2 * size)
    ],
    "what is taken out was never plugged in, and the guest has a lot else": lambda size: [
        *_each(size, "attach"), *(_device(size + number, "detach", REDIRECTED) for number in range(size))
    ],
    "devices that the guest did not get, then a lot of libvirtd's words of the guest": lambda size: [
        *_each(size, "start", success=False), *_stops(size, size)
    ],
    "the same, with as long between the two as it takes until nobody adds to the first of them": lambda size: [
        *_each(size, "start", success=False), *_stops(size, 300_000)
    ],
    "a USB device that libvirtd did not find in each start, of a guest that has a lot else": lambda size: [
        *_each(size, "attach", success=False),
        *(each for number in range(size, 2 * size)
          for each in (_device(number, "start", UNRESOLVED), _control(number, "start", success=False))),
    ],
    "devices of one start, of which one is recorded again and again": _started_twice,
    "the same, of a guest of which libvirtd has said something": lambda size: [
        _control(0, "stop"), *_started_twice(size)
    ],
    "one start of one device, recorded by ever other programs": lambda size: [
        _device(number, "start", _pci(0), f"/opt/{number}") for number in range(size)
    ],
}  # fmt: skip


def _seconds(records: list[Record]) -> float:
    pairing = Pairing(lambda _: None, lambda _: None)
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        pairing.add(records)
        pairing.close()
        return time.process_time() - start
    finally:
        gc.enable()


@pytest.mark.rest
@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_time_grows_with_the_log(log: Callable[[int], list[Record]]) -> None:
    """Not with its square: no record is a reason to go through all that is known of a guest."""
    grows_with(log, _seconds, SIZE)


@pytest.mark.rest
@pytest.mark.parametrize("line", [b"type=AB msg=audit(x)\n", b"type=AB msg=audit(x) msg=audit(x) msg=audit(x)\n"])
def test_the_last_record_is_found_in_time(line: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the square of what comes after it in a piece: lines that look like a record and are none."""
    monkeypatch.setattr(reader, "_PIECE", 1 << 24)

    def cost(log: bytes) -> float:
        (tmp_path / "log").write_bytes(log)
        read, (source,) = reader.Read(), sources(tmp_path / "log")
        start = time.process_time()
        assert sum(map(len, reader.pieces(source, read, lambda _: None))) == len(log)
        seconds = time.process_time() - start
        reader.close([source])
        assert read.covered == (1_000, 1_000)
        return seconds

    grows_with(lambda size: b"type=X msg=audit(1.000:1): x\n" + line * size, cost, 10_000)


def _lives(nodes: int, held: int) -> Pairing:
    """A guest on each of many hosts has been read of, piece by piece; on so many of them it goes on."""
    pairing = Pairing(lambda _: None, lambda _: None)
    for number in range(nodes):
        time, node = 1_000 * number, f"kvm{number}"
        start: list[Record] = [_device(time, "start", _pci(0), node=node), GuestRecord(time, node, "start", UUID, True)]
        pairing.add(start if number < held else [*start, GuestRecord(time, node, "stop", UUID, True)])
    return pairing


def test_hosts_whose_guests_have_ended_are_forgotten() -> None:
    """However many they are, no more of them are remembered; and none that has a device is forgotten."""
    known = []
    for nodes in (8_000, 40_000):
        pairing = _lives(nodes, held=100)
        known.append(sum(isinstance(each, Guest) for each in gc.get_objects()))
        entries: list[Entry] = []
        pairing._give = entries.append
        pairing.close()
        assert sum(entry.end is None for entry in entries) == 100
    assert known[1] < 1.5 * known[0] + 8_000


def test_going_through_all_guests_takes_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests that all have a device are gone through the more seldom the more there are."""
    looks = 0

    def idle(guest: Guest) -> bool:
        nonlocal looks
        looks += 1
        return not guest.held

    monkeypatch.setattr(Guest, "idle", property(idle))
    for nodes in (10_000, 40_000):
        looks = 0
        _lives(nodes, held=nodes)
        assert 0 < looks < 3 * nodes


def _page(days: int, guests: int) -> str:
    """Of guests that had a card in turn, each day one, and of an auditd that was started anew each day."""
    page = Page(
        Selection(Wanted(frozenset(), frozenset(), frozenset(), frozenset(), None, None, None), ["log"]),
        lambda _, ids: Name(ids),
    )
    entries = []
    for number in range(guests):
        had = 86_400_000 * number, 86_400_000 * number + 1_000
        writers = ("libvirtd",)
        uuid = f"{UUID[:-2]}{number:02}"
        entries.append(Entry("kvm1", f"vm{number}", uuid, "pci", "0", "start", "stop", *had, True, writers))
    rows = sorted(map(page.row, entries))
    for day in range(days):
        for node in ("kvm1", "kvm2"):
            page.silence(Silence(node, 86_400_000 * day + 5_000, 86_400_000 * day + 6_000, "auditd did not run"))
    return "".join(page.write(lambda: rows, Made(86_400_000 * days, "kvm1", "0"), []))


def test_a_page_is_as_long_as_what_it_tells() -> None:
    """Of each time without a trail it has a line, and not a mark for each guest and device."""
    short, long = _page(365, 12), _page(3_650, 12)
    times = 2 * (3_650 - 365)
    assert len(long) - len(short) < 300 * times
    assert len(_page(3_650, 12)) - len(_page(3_650, 2)) < 10 * 3_000
    for page in (short, long):
        drawn = re.findall('<path id="s[12]" class="silence" d="([^"]*)"', page)
        assert all(0 < each.count("M") <= COLUMNS for each in drawn)
        assert len(drawn) == 2
        assert page.count('<use href="#s1"/>') == 1 + 12 + 12, "of the device, and of each guest from both sides"
        assert '<use href="#s2"/>' not in page, "that is another host's"
    assert "7300 times" in long


def test_times_without_a_trail_that_fall_together_are_one() -> None:
    """Of so many at most as there are columns; how many they are and why is kept, and what lies apart stays apart."""
    span = Span(0, 8_000)
    silences = [Silence(None, at, end, why) for at, end, why in ((4_000, None, "a"), (10, 15, "b"), (0, 5, "a"))]
    assert gaps(silences, span) == [Gap(0, 2, 2, ("a", "b")), Gap(400, 800, 1, ("a",))]
    assert len(gaps([Silence(None, at, at + 1, "a") for at in range(8_000)], span)) == 1
    apart = gaps([Silence(None, at, at + 1, "a") for at in range(0, 8_000, 40)], span)
    assert [gap.times for gap in apart] == [1] * 200


@pytest.mark.parametrize(
    "line", ["type=DAEMON_START {}: op=start", "type=CONFIG_CHANGE {}: audit_enabled=0 old=1 res=1"]
)
def test_many_hosts_trails_are_looked_around_for_once(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each of many hosts has a line of its own trail alone, no line is read again for each of those near it."""
    read = 0
    stamp = Parser._stamp

    def counted(parser: Parser, text: bytes) -> tuple[str | None, int] | None:
        nonlocal read
        read += 1
        return stamp(parser, text)

    monkeypatch.setattr(Parser, "_stamp", counted)
    lines = [f"node=kvm{number} " + line.format(f"msg=audit({number}.000:1)") for number in range(2_000)]
    found = list(Parser().records(b"".join(b"\n" + text.encode() for text in lines)))
    assert len(found) == len(lines)
    assert read < 20 * len(lines)


_NODES = ("a", "b", "c")
_LINES = st.lists(st.tuples(st.sampled_from(_NODES), st.integers(1, 9), st.integers(0, 2_000)), max_size=150)


@given(_LINES, st.integers(0, 150), st.sampled_from(_NODES), st.integers(0, 9), st.integers(0, 150))
def test_the_line_around_is_the_nearest_of_the_host(
    lines: list[tuple[str, int, int]], at: int, node: str, time: int, cut: int
) -> None:
    """Of those that begin within 64 KiB, wherever the piece before ended; as is seen where each is looked at."""
    texts = [f"\nnode={name} type=X msg=audit({when}.000:1): {'x' * more}".encode() for name, when, more in lines]
    at, cut = min(at, len(texts)), min(cut, len(texts))
    places = list(itertools.accumulate(map(len, texts), initial=0))
    around = Around(b"".join(texts[:cut]), b"".join(texts[cut:]), Parser()._stamp)
    near = [
        (place - places[at], when * 1000)
        for (name, when, _), place in zip(lines, places, strict=False)
        if name == node and abs(place - places[at]) <= AROUND
    ]
    before = [when for place, when in near if place < 0]
    after = [when for place, when in near if 0 <= place < AROUND and when > time * 1000]
    assert around.before(node, places[at] - places[cut]) == (before[-1] if before else None)
    assert around.after(node, time * 1000, places[at] - places[cut]) == (after[0] if after else None)
