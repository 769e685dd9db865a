# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each fault at each step of prepare and of release: what the user reads, what remains, and how it ends.

docs/faults.md is made of this: ``python3 -m pytest tests/sim/test_faults.py --libhook-regenerate`` writes it anew.
"""

import os
from pathlib import Path

import cases
import pytest
from amounts import AMOUNTS, offset
from cases import DISK, NIC
from fault_list import troubles
from fault_rows import Row
from scenario import Host, guest
from stage import played, survived

from libhook.simulation.faults import Fault, inject
from libhook.simulation.hosts import nic

_TABLE = Path(__file__).parents[2] / "docs" / "faults.md"
_PROCESSES = os.cpu_count() or 1
_INTRODUCTION = """# What goes wrong, and what then

One network card, 0000:01:00.0 on e1000e, is handed to a guest (`prepare`), looked at once more (`start`), recorded
(`started`) and given back (`release`) on a simulated host, and at each step something goes wrong. The step is the one
of the sequence: load the driver's module, set the device's `driver_override`, unbind it from its driver, probe, and
where a probe binds nothing, bind by name. "Journal" stands for /run/libhook, "lock" for the moment at which the hook
waits for another one that is at work on the guest, "the call" for what libvirtd's call brings along, "look" for what
is read before anything is written, "device" and "host" for what happened since the event before. With "any" it depends
on how much is left: so many processes or descriptors, and none more. A driver that takes its time is done before
`write_deadline`, one that does not let go is not. What is separated by commas is answered alike.

What the user reads is the error of `virsh start`; at `started` and `release`, which libvirt calls without looking at
the answer, it is in the system's log. What remains is how the device is when the event is over, and whether libhook
still holds it. In the end the fault is over, and libvirt's `release` and `libhook recover` have run.

Made from the tests, which fail where it is not true: tests/sim/test_faults.py.
"""
_EVENTS = ("prepare", "start", "started", "release")


def _cells(row: Row) -> tuple[str, ...]:
    """As they stand in the table, with ``{}`` for the variants."""
    cells = (row.step, row.fault, str(row.code), row.reads, row.remains, row.end)
    return tuple(cell.replace("|", "/") for cell in cells)


def _table(rows: list[Row]) -> str:
    lines = [_INTRODUCTION]
    for event in _EVENTS:
        lines += [f"## {event}", "", "| step | fault | exit | what the user reads | what remains | in the end |"]
        lines.append("|---|---|---|---|---|---|")
        alike: dict[tuple[str, ...], list[str]] = {}
        for row in rows:
            if row.event == event:
                alike.setdefault(_cells(row), []).append(row.variant)
        for cells, variants in alike.items():
            lines.append(f"| {' | '.join(cells)} |".replace("{}", ", ".join(variants)))
        lines.append("")
    return "\n".join(lines)


def _stands(row: Row, written: str) -> bool:
    """Whether it does in the table, alone or among those that are answered alike."""
    before, _, after = f"| {' | '.join(_cells(row))} |".partition("{}")
    section = written.partition(f"## {row.event}\n")[2].partition("\n## ")[0]
    return any(
        line == before
        or (row.variant and line.startswith(before) and line.endswith(after) and _lists(line, row.variant))
        for line in section.splitlines()
    )


def _lists(line: str, variant: str) -> bool:
    return variant in line.split(" | ")[1].replace(",", "").split()


def test_every_fault_is_survived_and_the_table_says_how(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """Given, or refused in one line and recorded failed; in the end as it began; and docs/faults.md is not stale."""
    regenerate = request.config.getoption("--libhook-regenerate")
    every = 1 if regenerate else AMOUNTS.faults
    begin = offset("faults", every)
    outcomes = sorted(played(*(("fault_rows.py", first, _PROCESSES, begin, every) for first in range(_PROCESSES))))
    rows = [Row(*row) for _, row in outcomes]
    survived(capsys, "faults", [(" | ".join(row[:4]), row.problems) for row in rows], {})
    assert len(rows) == len(list(troubles())[begin::every])
    if regenerate:
        _TABLE.write_text(_table(rows))
    written = _TABLE.read_text()
    assert [row for row in rows if not _stands(row, written)] == []
    assert every > 1 or written == _table(rows)


def test_a_driver_that_cannot_be_loaded_is_said_of_the_devices_that_need_it(root: str) -> None:
    """And recorded at once of those alone; of the others when the start is over."""
    (variant,) = cases.variant().devices
    plain = nic().devices[0]._replace(address=DISK)
    world = cases.variant()._replace(devices=(variant, plain), drivers=(cases.MLX, *nic().drivers))
    host = Host(root, world)
    inject(root, Fault("load mlx5_vfio_pci", error="ENOENT"))
    both = guest(NIC, DISK)
    outcome = host.event(both, "prepare")
    remedy = "to try it by hand and see why, run: modprobe mlx5_vfio_pci"
    assert outcome.line == f"{NIC}: the driver mlx5_vfio_pci cannot be loaded: {remedy}"
    assert host.records == [f"start {NIC} failed"]
    host.event(both, "release", "failed")
    assert host.records == [f"start {NIC} failed", f"start {DISK} failed"]
    assert host.changed == []
