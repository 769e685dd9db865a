# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whoever defines a guest, or writes a record, chooses names. ``libhook history`` has none that reads as advice."""

import os
import sys
from pathlib import Path

import pytest
from trail_writing import BEGIN, NOWHERE, Trail, read

from libhook.command import parsing
from libhook.errors import TO_PASTE
from libhook.history import command
from libhook.history.colour import plain
from libhook.history.events import Event
from libhook.history.names import lookup
from libhook.history.telling import AsText

ADVICE = f"{TO_PASTE} poweroff\n\x1b[1m"


def _log(node: str, now: int = BEGIN) -> Trail:
    """Each name that a record may bring is advice. A host's has no blank."""
    log = Trail(node, now=now).device("libhook", "start", vm=ADVICE, bus="scsi", device=ADVICE)
    log.device(f"/tmp/{TO_PASTE}x", "start", vm="b", uuid=f"x{TO_PASTE}", bus=TO_PASTE, device="c")
    return log.raw("DAEMON_END", "x").raw("DAEMON_START", "x", after=60_000)


@pytest.mark.parametrize("width", [None, 40])
def test_no_name_reads_as_advice_in_the_table(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, width: int | None
) -> None:
    """Nor in what is said above it, below it and on stderr: of hosts, times without a trail, filters and files."""
    monkeypatch.setenv("NO_COLOR", "1")
    if width:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((width, 24)))
        monkeypatch.setattr(sys.stdout, "fileno", lambda: 1)
    logs = [tmp_path / name for name in (f"a {TO_PASTE} x", f"b {TO_PASTE} x")]
    logs[0].write_bytes(bytes(_log(TO_PASTE)) + bytes(_log("kvm2", BEGIN + 3_600_000)))
    logs[1].write_bytes(bytes(_log("kvm3")).replace(b":12)", b":20)"))
    given = [word for log in logs for word in ("-if", str(log))]
    for more in ((), ("-ts", "2026-11-24T18:00+00:00"), ("--vm", ADVICE)):
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


def test_a_host_without_a_name_has_none_in_a_sentence(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Among others that have one."""
    log = bytes(Trail().device("libhook", "start")) + bytes(Trail("kvm1").device("libhook", "start"))
    (tmp_path / "log").write_bytes(log)
    options = ["history", "-if", str(tmp_path / "log"), "-ts", "2026-11-24T18:00+00:00"]
    assert command.run("", parsing.parser().parse_args(options)) == 0
    assert b"None" not in capsysbinary.readouterr().out
