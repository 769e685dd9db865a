# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a device was called, by the ids that its records carry."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trail_writing import Trail, entries

from libhook.command import parsing
from libhook.history import command

CARD, OLD, STICK = "1002:747e", "8086:10d3", "0951:1666"
RADEON = "Advanced Micro Devices, Inc. [AMD/ATI]", "Navi 32 [Radeon RX 7700 XT / 7800 XT]"
LISTS = {
    "pci": f"1002  {RADEON[0]}\n\t747e  {RADEON[1]}\n8086  Intel\x1b[31m Corporation\n",
    "usb": "0951  Kingston Technology\n\t1666  DataTraveler 100 G3\n",
}
RECORD = ("ids_from", "record")
Run = Callable[..., list[Any]]


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """The command, on a host with lists of names: lines of text, or with --json what they say."""
    lists = tmp_path / "usr/share/hwdata"
    lists.mkdir(parents=True)
    for bus, content in LISTS.items():
        (lists / f"{bus}.ids").write_text(content)

    def ran(log: Trail, *arguments: str) -> list[Any]:
        (tmp_path / "log").write_bytes(bytes(log))
        options = parsing.parser().parse_args(["history", "-if", str(tmp_path / "log"), *arguments])
        assert command.run(str(tmp_path), options) == 0
        out = capsysbinary.readouterr().out.decode()
        return entries(out) if "--json" in arguments else out.splitlines()

    return ran


def _two_cards() -> Trail:
    """At one address: the old card, until another was put in."""
    log = Trail().device("libhook", "start", ids=OLD).device("libhook", "stop", ids=OLD)
    log.device("libhook", "start", ids=CARD, after=60_000).device("libvirtd", "start", after=50).control("start")
    return log.device("libvirtd", "attach", bus="usb", device="001.002").device(
        "libhook", "attach", bus="usb", device="001.002", ids=STICK
    )


def test_a_card_is_called_what_it_was(run: Run) -> None:
    """Two cards at one address have their own names, by libhook's word alone; a stick has its name from usb.ids."""
    found = run(_two_cards(), "--json")
    assert [list(entry.items())[-4:] for entry in found] == [
        [("ids", OLD), ("vendor", "Intel\x1b[31m Corporation"), ("model", None), RECORD],
        [("ids", CARD), ("vendor", RADEON[0]), ("model", RADEON[1]), RECORD],
        [("ids", STICK), ("vendor", "Kingston Technology"), ("model", "DataTraveler 100 G3"), RECORD],
    ]
    heading, old, card, stick, _ = run(_two_cards())
    at = heading.index("  NAME  ") + 2
    assert old[at:].startswith(f"Intel\\x1b[31m [{OLD}]  ")
    assert card[at:].startswith(f"AMD Radeon RX 7700 XT / 7800 XT [{CARD}]  win11  ")
    assert stick[at:].startswith(f"Kingston DataTraveler 100 G3 [{STICK}]  ")


def test_without_ids_nothing_has_a_name(run: Run, tmp_path: Path) -> None:
    """There is no column for it, whatever is at that address today; in JSON the fields are null."""
    (tmp_path / "sys/bus/pci/devices/0000:01:00.0").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/0000:01:00.0/vendor").write_text("0x1002\n")
    (tmp_path / "sys/bus/pci/devices/0000:01:00.0/device").write_text("0x747e\n")
    log = Trail().device("libvirtd", "start").control("start")
    (entry,) = run(log, "--json")
    assert [entry[name] for name in ("ids", "vendor", "model", "ids_from")] == [None] * 4
    assert "NAME" not in run(log)[0]


def test_a_host_without_lists_shows_the_ids(run: Run, tmp_path: Path) -> None:
    """They are what the record says; the rest is unknown."""
    for path in (tmp_path / "usr/share/hwdata").iterdir():
        path.unlink()
    assert f"  [{CARD}]  win11" in run(_two_cards())[2]
    assert [entry["vendor"] for entry in run(_two_cards(), "--json")] == [None, None, None]


def test_a_device_is_found_by_its_ids(run: Run) -> None:
    """Wherever it was, and in capitals too; what has no ids is not found so."""
    log = _two_cards().device("libhook", "attach", device="0000:09:00.0", ids=CARD).device("libvirtd", "attach")
    assert [entry["device"] for entry in run(log, "--json", "-d", CARD.upper())] == ["0000:01:00.0", "0000:09:00.0"]
    assert [entry["device"] for entry in run(log, "--json", "-d", OLD, "-d", "001.002")] == ["0000:01:00.0", "001.002"]
    assert run(log, "--json", "-d", "ffff:ffff") == []


def test_a_narrow_terminal_shows_the_name_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line of its own, which is broken where it must be."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((60, 24)))
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1)
    assert f"  AMD Radeon RX 7700 XT / 7800 XT [{CARD}]" in run(_two_cards())
