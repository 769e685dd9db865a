# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person reads: what a device was called, in which colours, and no name that reads as advice."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from trail_writing import BEGIN, NOWHERE, OTHER, Trail, entries, read, terminal

from libhook.command import parsing
from libhook.errors import TO_PASTE
from libhook.history import command
from libhook.history.colour import coloured, plain, wanted
from libhook.history.events import Event
from libhook.history.names import lookup
from libhook.history.table import Table
from libhook.history.telling import AsText

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


def test_a_narrow_terminal_shows_the_name_too(run: Run) -> None:
    """In a line of its own, which is broken where it must be."""
    with terminal(60):
        assert f"  AMD Radeon RX 7700 XT / 7800 XT [{CARD}]" in run(_two_cards())


RED, GREEN, YELLOW, DIM, END = (f"\033[{code}m" for code in (31, 32, 33, 2, 0))


def _lines(width: int | None, paint: Callable[[str, str], str]) -> list[str]:
    """One that ended, one that failed and on which the records differ, a silence, one that is held."""
    log = Trail().device("libvirtd", "start").control("start").device("libhook", "stop").control("stop")
    log.device("libhook", "start", False, vm="\u5b57").device("libvirtd", "start", vm="\u5b57").control("start", False)
    log.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start")
    log.device("libvirtd", "attach", uuid=OTHER, vm="\x1b[31m, held", device="0000:02:00.0")
    entries, silences, _ = read([bytes(log)])
    table = Table(lookup(NOWHERE))
    rows = [(entry.start or 0, table.row(entry)) for entry in entries]
    rows += [(silence.start, table.silence(silence)) for silence in silences]
    return list(table.lines((row for _, row in sorted(rows)), width, paint=paint))


@pytest.mark.parametrize("width", [None, 200, 60, 20])
def test_colours_change_no_text(width: int | None) -> None:
    """Without its codes, each line is the one that a pipe gets; and each code is ended on its line."""
    for painted, text in zip(_lines(width, coloured), _lines(width, plain), strict=True):
        assert re.sub(r"\033\[\d+m", "", painted) == text
        assert painted.count("\033[") == 2 * painted.count(END)


def test_what_matters_is_coloured() -> None:
    """What failed, where records differ, silences, what is held; and nothing else."""
    _, ended, failed, silent, held = _lines(None, coloured)
    assert "\033" not in ended
    assert f"  {RED}start failed{END}  " in failed
    assert failed.endswith(f"  {YELLOW}libvirtd: success{END}")
    assert silent.startswith(f"{DIM}-- no trail from ")
    assert f"  {GREEN}attach, held{END}  libvirtd" in held
    assert '"\\x1b[31m, held"  ' in held


def test_a_narrow_terminal_has_colours_too() -> None:
    """A paragraph's line of what happened."""
    lines = _lines(60, coloured)
    assert f"{RED}  start failed  by libvirtd, libhook  libvirtd: success{END}" in lines
    assert f"{GREEN}  attach, held  by libvirtd{END}" in lines


@pytest.mark.parametrize(
    ("terminal", "environment", "paint"),
    [
        (True, {"TERM": "xterm"}, coloured),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, coloured),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, plain),
        (True, {"TERM": "dumb"}, plain),
        (True, {}, plain),
        (False, {"TERM": "xterm"}, plain),
    ],
)
def test_who_gets_colours(terminal: bool, environment: dict[str, str], paint: Callable[[str, str], str]) -> None:
    """A terminal that has them, unless its user does not want them."""
    assert wanted(terminal, environment) is paint


ADVICE = f"{TO_PASTE} poweroff\n\x1b[1m"


def _log(node: str, now: int = BEGIN) -> Trail:
    """Each name that a record may bring is advice. A host's has no blank."""
    log = Trail(node, now=now).device("libhook", "start", vm=ADVICE, bus="scsi", device=ADVICE)
    log.device(f"/tmp/{TO_PASTE}x", "start", vm="b", uuid=f"x{TO_PASTE}", bus=TO_PASTE, device="c")
    return log.raw("DAEMON_END", "x").raw("DAEMON_START", "x", after=60_000)


@pytest.mark.parametrize("width", [None, 40])
def test_no_name_reads_as_advice_in_the_table(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], width: int | None
) -> None:
    """Nor in what is said above it, below it and on stderr: of hosts, times without a trail, filters and files."""
    logs = [tmp_path / name for name in (f"a {TO_PASTE} x", f"b {TO_PASTE} x")]
    logs[0].write_bytes(bytes(_log(TO_PASTE)) + bytes(_log("kvm2", BEGIN + 3_600_000)))
    logs[1].write_bytes(bytes(_log("kvm3")).replace(b":12)", b":20)"))
    given = [word for log in logs for word in ("-if", str(log))]
    for more in ((), ("-ts", "2026-11-24T18:00+00:00"), ("--vm", ADVICE)):
        with terminal(width) if width else nullcontext():
            assert command.run("", parsing.parser().parse_args(["history", *given, *more])) == 0
        out, err = (text.decode() for text in capsysbinary.readouterr())
        assert "run\\x3a" in out
        assert "excerpt" in err
        assert [line for line in (out + err).splitlines() if TO_PASTE in line or not line.isprintable()] == []


def test_no_name_reads_as_advice_in_what_is_followed() -> None:
    """The line of an entry."""
    telling = AsText(lookup(NOWHERE), plain)
    for entry in read([bytes(_log(TO_PASTE))])[0]:
        line = telling.line(Event("began", "x", 1, entry))
        assert "run\\x3a" in line
        assert TO_PASTE not in line
