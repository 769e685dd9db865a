# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pages tell of operations, records and settings is what libhook does."""

import re
from pathlib import Path

import pytest
from settings_reading import parse

from libhook.facts.address import PciAddress
from libhook.facts.event import ATTACH, DETACH, OPERATIONS
from libhook.facts.settings import Device
from libhook.handlers import record
from libhook.simulation.guests import Assigned, Guest
from libhook.xml import domxml

DOCS = Path(__file__).parent.parent / "docs"
CARDS = [Device(PciAddress.parse("0000:03:00.0"), "10de:2684")]
SETTINGS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), flags=re.M | re.S))
]


def _rows(page: str, columns: int) -> dict[str, list[str]]:
    """The rows of the tables with so many columns whose first cell is code, by that."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| `")]
    found = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {cells[0].split("`")[1]: cells[1:] for cells in found if len(cells) == columns}


def test_which_operations_may_refuse() -> None:
    """docs/flow.md: these two, and no others; the ones that it does not list do nothing."""
    told = {name: cells[1] == "yes" for name, cells in _rows("flow.md", 4).items()}
    assert told == {name: operation.may_veto for name, operation in OPERATIONS.items() if name in told}
    assert [name for name, operation in OPERATIONS.items() if operation.acts and name not in told] == []


def test_what_handlers_may_do_at_each_operation() -> None:
    """docs/handlers.md, with hot-plug."""
    told = {name: (cells[0] == "yes", cells[1] == "yes") for name, cells in _rows("handlers.md", 5).items()}
    acting = [*(operation for operation in OPERATIONS.values() if operation.acts), ATTACH, DETACH]
    assert told == {one.name: (one.may_veto, one.takes) for one in acting}
    records = {name: tuple(re.findall(r"`(\w+)`", cells[3])) for name, cells in _rows("handlers.md", 5).items()}
    assert records == {one.name: one.records for one in acting}


def test_the_record_is_the_one_that_is_written() -> None:
    """docs/record.md: what libhook says in it; the rest is the kernel's and libaudit's."""
    shown = " ".join((DOCS / "record.md").read_text().split("```text\n")[1].split("\n```")[0].split())
    domain = domxml.parse(Guest("win11", (Assigned("0000:03:00.0"),)).xml())
    assert f"msg='{record.text(domain, domain.devices[0], 'start')} exe=" in shown


@pytest.mark.parametrize("block", SETTINGS)
def test_settings_that_are_shown_are_right(block: str) -> None:
    """For each guest that they name, libhook takes them."""
    names = [name.replace("*", "x") for name in re.findall(r"domains\.\"([^\"]+)\"", block)]
    for name in names or ["win11"]:
        parse(block, name, devices=CARDS)
