# SPDX-License-Identifier: LGPL-2.1-or-later
"""The audit log of a busy host: thirty guests that take turns at two dozen devices, through the years."""

import heapq
import random
import sys
import uuid
from pathlib import Path

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "unit")]
from trail_writing import Trail

YEAR = 20_000
"""Entries of a year."""
_HOUR = 3_600_000
_GUESTS = ("win11", "build", "cad", "render", "lab", "ci", "studio", "desk", "test", "games")


def log(entries: int) -> bytes:
    """So many entries, or a few more; the same log each time."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    trail = Trail("kvm1", now=1_764_000_000_000)
    devices = [("pci", f"0000:{number:02x}:00.{function}") for number in range(1, 9) for function in (0, 1)]
    devices += [("usb", f"001.{number:03d}") for number in range(2, 10)]
    busy: dict[tuple[str, str], int] = {}
    due: list[tuple[int, int, bool]] = []
    guests = []
    for number in range(30):
        name = f"{_GUESTS[number % 10]}-{number // 10 + 1}"
        first = chance.randrange(8) * 2
        wants = [devices[first], devices[first + 1], devices[16 + chance.randrange(8)]][: chance.choice((2, 2, 3))]
        guests.append((name, str(uuid.UUID(int=chance.getrandbits(128), version=4)), wants))
        heapq.heappush(due, (trail.now + chance.randrange(40 * _HOUR), number, True))
    count, audited = 0, trail.now
    while count < entries:
        time, number, starts = heapq.heappop(due)
        name, identity, wants = guests[number]
        trail.now = max(trail.now, time)
        if trail.now - audited > 700 * _HOUR:
            audited = trail.now
            trail.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=chance.randrange(_HOUR))
        if not starts:
            for bus, device in wants:
                busy.pop((bus, device), None)
                trail.device("libhook", "stop", vm=name, uuid=identity, bus=bus, device=device, after=3)
            trail.control("stop", vm=name, uuid=identity, after=200)
            heapq.heappush(due, (trail.now + chance.randrange(_HOUR, 12 * _HOUR), number, True))
            continue
        taken = [device for device in wants if device in busy]
        if taken and chance.random() < 0.95:  # mostly people look first
            heapq.heappush(due, (trail.now + chance.randrange(_HOUR, 4 * _HOUR), number, True))
            continue
        for bus, device in wants if not taken else taken[:1]:
            good = not taken
            trail.device("libhook", "start", good, vm=name, uuid=identity, bus=bus, device=device, after=5)
            trail.device("libvirtd", "start", vm=name, uuid=identity, bus=bus, device=device, after=5)
            count += 1
            if good:
                busy[bus, device] = number
        trail.control("start", not taken, vm=name, uuid=identity, after=400)
        again = chance.randrange(_HOUR, 9 * _HOUR) if taken else chance.randrange(_HOUR // 4, 9 * _HOUR)
        heapq.heappush(due, (trail.now + again, number, bool(taken)))
    return bytes(trail)


if __name__ == "__main__":
    sys.stdout.buffer.write(log(int(sys.argv[1])))
