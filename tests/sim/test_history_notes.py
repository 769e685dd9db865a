# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history`` knows a device by what it was at the time, also where no record says it."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import NIC
from command import libhook
from rebooting import CARD, live, rebooting, shifted
from scenario import Host
from trail_writing import Trail, entries

from libhook.history.entry import Entry
from libhook.history.remembered import Remembered, Was
from libhook.simulation.hosts import workstation

HOUR = 3600
OLD, NEW = Was(NIC, "8086:10d3", 1000 * HOUR, 2000 * HOUR), Was(NIC, "144d:a808", 3000 * HOUR, 4000 * HOUR)


def entry(hours: float | None, *, success: bool = True, node: str | None = None, device: str = NIC) -> Entry:
    """The guest had the device from that hour on."""
    start = None if hours is None else round(hours * HOUR * 1000)
    return Entry(node, "win11", CARD.uuid, "pci", device, "start", None, start, None, success, ("libvirtd",))


@pytest.mark.parametrize(
    ("one", "ids"),
    [
        (entry(1000), OLD.ids), (entry(1500), OLD.ids), (entry(2000), OLD.ids), (entry(2000.5), ""),
        (entry(3000), NEW.ids), (entry(900), ""), (entry(4001), ""), (entry(None), ""),
        (entry(999.99), OLD.ids),  # libvirtd's record comes before the hook
        (entry(1500, success=False), OLD.ids),
        (entry(2000.001, success=False), ""),  # refused, perhaps because it is another one
        (entry(1500, device="0000:02:00.0"), ""), (entry(1500)._replace(bus="usb"), ""),
        (entry(1500, node="kvm1"), OLD.ids), (entry(1500, node="kvm1.lan"), OLD.ids), (entry(1500, node="kvm2"), ""),
        (entry(1500)._replace(ids="1234:5678"), "1234:5678"),
    ],
)  # fmt: skip
def test_what_a_device_was_at_the_time(one: Entry, ids: str) -> None:
    """Never what is at its address at another time, nor on another host."""
    assert Remembered("kvm1.lan", lambda _: [NEW, OLD]).complete(one).ids == ids


def test_the_command_names_a_card_that_is_gone(root: str, tmp_path: Path) -> None:
    """Two guests' lives with a card, then another card at its address: each entry has its own."""
    reboot: Callable[..., Host] = rebooting(root, tmp_path)
    live(reboot(workstation()), CARD)
    host = reboot(shifted())
    note = Path(host.machine.notes, f"{CARD.uuid}.json")
    now = int(time.time())
    text = json.loads(note.read_text())
    text["devices"][0] |= {"since": now - 3 * HOUR, "seen": now - 2 * HOUR}
    note.write_text(json.dumps(text))
    assert libhook(host, "accept", "win11").code == 0
    live(host, CARD)
    log = Path(host.root, "var/log/audit/audit.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    trail = Trail(now=(now - 3 * HOUR) * 1000).device("libvirtd", "start", uuid=CARD.uuid, device=NIC, after=0)
    for _ in range(3):
        trail.device("libvirtd", "start", uuid=CARD.uuid, device=NIC, after=HOUR * 1000)
    log.write_bytes(bytes(trail))
    intel, samsung = "82574L Gigabit Network Connection", "NVMe SSD Controller SM981/PM981/PM983"
    shown = entries(libhook(host, "history", "--json").out)
    assert [one["model"] for one in shown] == [intel, intel, None, samsung]
    assert "Intel 82574L" in libhook(host, "history", columns=300).out
    assert [one["ids"] for one in entries(libhook(host, "history", "--json", "-if", str(log)).out)] == [None] * 4
    note.write_text("{")
    assert '"model": "' not in libhook(host, "history", "--json").out
