# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history`` says from when to when it knows each host's trail, and which events are missing in it."""

import fcntl
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from family import children
from trail_writing import BEGIN, OTHER, Trail, entries

from libhook.command import parsing
from libhook.history import aside, command, reader
from libhook.history.numbers import Numbers

Run = Callable[..., tuple[str, str]]
YEAR = 365 * 86_400_000


@pytest.fixture
def run(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run it on these logs, in UTC: stdout and stderr."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    def ran(logs: list[bytes], *arguments: str) -> tuple[str, str]:
        paths = [tmp_path / f"log{number}" for number in range(len(logs))]
        for path, log in zip(paths, logs, strict=True):
            path.write_bytes(log)
        given = [word for path in paths for word in ("-if", str(path))]
        assert command.run("", parsing.parser().parse_args(["history", *given, *arguments])) == 0
        out, err = capsysbinary.readouterr()
        return out.decode(), err.decode()

    yield ran
    monkeypatch.undo()
    time.tzset()


def _lines(node: str = "", events: int = 1000) -> list[bytes]:
    """A whole log: events of one line to three, as the kernel numbers them, with auditd's own among them."""
    head = f"node={node} " if node else ""
    lines, second = [], BEGIN // 1000
    for number in range(1, events + 1):
        stamp = f"msg=audit({second + number}.000:{number})"
        lines += [f"{head}type={kind} {stamp}: x=1\n" for kind in ("SYSCALL", "CWD", "PATH")[: number % 3 + 1]]
        if number % 100 == 0:
            lines.append(f"{head}type=DAEMON_ROTATE msg=audit({second + number}.000:{7000 + number}): x=1\n")
    return [line.encode() for line in lines]


def _gaps(lines: list[bytes], size: int = 1 << 18) -> list[tuple[int, int]]:
    """The first missing number and the last of each gap, where the log comes in pieces of about so many bytes."""
    numbers, piece = Numbers(), b""
    numbers.log("log")
    for line in lines:
        piece += b"\n" + line.rstrip(b"\n")
        if len(piece) >= size:
            numbers.take(piece)
            piece = b""
    if piece:
        numbers.take(piece)
    return [(gap.first, gap.last) for _, gap in numbers.gone()]


def _number(line: bytes) -> int:
    return int(line.partition(b":")[2].partition(b")")[0])


def _without(lines: list[bytes], first: int, last: int) -> list[bytes]:
    return [line for line in lines if b"DAEMON_" in line or not first <= _number(line) <= last]


@pytest.mark.parametrize("node", ["", "kvm1"])
@pytest.mark.parametrize("size", [60, 1_000, 1 << 18])
def test_events_that_are_cut_out_are_missing(node: str, size: int) -> None:
    """Exactly these, wherever a piece ends; not the first of the log, nor the last."""
    whole = _lines(node)
    assert _gaps(whole, size) == []
    assert _gaps(_without(whole, 500, 519), size) == [(500, 519)]
    assert _gaps(_without(_without(whole, 500, 500), 601, 602), size) == [(500, 500), (601, 602)]
    assert _gaps(_without(_without(whole, 1, 10), 990, 1000), size) == []
    assert _gaps(_without(whole, 99, 102), size) == [(99, 102)], "auditd's own event in between has no such number"


@pytest.mark.parametrize("size", [60, 1_000, 1 << 18])
def test_lines_out_of_order_are_not_missing(size: int) -> None:
    """Two CPUs, or three, write at once."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    lines = _without(_lines(), 500, 519)
    mixed = [line for _, line in sorted((at + chance.random() * 6, line) for at, line in enumerate(lines))]
    assert mixed != lines
    assert _gaps(mixed, size) == [(500, 519)]


def test_where_auditd_starts_numbers_begin_anew() -> None:
    """After a boot they are low again; without one, what was numbered meanwhile is in a time without a trail."""
    start = b"type=DAEMON_START msg=audit(%d.000:77): op=start\n" % (BEGIN // 1000)
    assert _gaps([*_lines(events=50), start, *_lines(events=50)]) == []
    assert _gaps([*_lines(events=50), start, *_without(_lines(), 1, 300)]) == []
    assert _gaps([*_lines(events=50), start, *_without(_lines(), 30, 40)]) == [(30, 40)]


@pytest.mark.parametrize("size", [60, 1_000, 1 << 18])
def test_what_is_no_number_misleads_nobody(size: int) -> None:
    """Lines that are cut off, numbers that are too long, and text that looks like a line."""
    odd = [b"type=", b"type=CWD msg=audit(1.000:x): ", b"type=CWD msg=audit(:", b"text", b"", b"node=x type=foo(1:2)"]
    odd += [b"type=CWD msg=audit(%s.000:7): " % (b"9" * 20), b"type=CWD msg=audit(1.000:%s): " % (b"9" * 5000)]
    for line in (line + b"\n" for line in odd):
        for whole in (_lines(), _without(_lines(), 500, 519), _without(_lines(), 500, 500)):
            for at in (0, 900, len(whole)):
                assert _gaps([*whole[:at], line, *whole[at:]], size) == _gaps(whole, size), line
    syslog = [b"Nov 24 18:30:00 kvm1 audisp-syslog[812]: " + line for line in _without(_lines(), 500, 519)]
    assert _gaps(syslog) == [(500, 519)]


def test_a_type_that_auditd_does_not_know_has_a_number() -> None:
    """Of a newer kernel. auditd 4 writes the ends of BPF programs so, each an event of its own."""
    lines = [line.replace(b"type=SYSCALL", b"type=UNKNOWN[1334]") for line in _lines()]
    assert _gaps(lines) == _gaps(lines, 60) == []


def test_a_late_line_is_not_taken_for_one_that_is_missing() -> None:
    """One number from elsewhere, and as many as there would be."""
    cut = _without(_lines(), 500, 500)
    at = next(number for number, line in enumerate(cut) if _number(line) == 520)
    first = next(number for number, line in enumerate(cut) if _number(line) == 490)
    numbers = Numbers()
    numbers.log("log")
    for part in (cut[:first], [*cut[first:at], b"type=PATH msg=audit(1.000:489): x\n"], cut[at:]):
        numbers.take(b"".join(b"\n" + line.rstrip(b"\n") for line in part))
    assert [(gap.first, gap.last) for _, gap in numbers.gone()] == [(500, 500)]


@pytest.mark.parametrize("boot", [b"DAEMON_START", b"SYSTEM_BOOT"])
def test_the_next_boot_has_other_events(boot: bytes) -> None:
    """They have the same numbers, and a late one of them fills no gap of the boot before."""
    stamp = b"msg=audit(%d.000:1): x=1\n" % (BEGIN // 1000)
    second = _lines(events=600)
    late = next(at for at, line in enumerate(second) if _number(line) == 505)
    second[late], second[late + 2] = second[late + 2], second[late]
    assert _gaps([*_without(_lines(), 500, 519), b"type=%b " % boot + stamp, *second], 1_000) == [(500, 519)]


def test_what_another_log_has_is_not_missing(run: Run) -> None:
    """Of the same host and time. Of two copies a gap is told once, and an excerpt beside them hides nothing."""
    whole, cut = (b"".join(lines) for lines in (_lines(), _without(_lines(), 500, 519)))
    chosen = b"".join(line for line in _lines() if b"type=PATH" in line)
    device = bytes(Trail(now=BEGIN + 2_000_000).device("libhook", "start")).replace(b":11)", b":1001)")
    assert "missing" not in run([cut, whole + device])[0]
    assert run([cut, cut + device])[0].count("20 events are missing") == 1
    out, err = run([chosen, cut + device])
    assert (out.count("20 events are missing"), err.count("excerpt")) == (1, 1)


def test_a_host_is_known_as_long_as_its_entries_are(run: Run) -> None:
    """Its clock was set back in the middle."""
    trail = Trail().device("libhook", "start", after=7_200_000)
    log = bytes(trail) + bytes(Trail().device("libhook", "start", device="0000:02:00.0", after=60_000))
    for one in entries(run([log], "--json")[0]):
        assert one["from"] <= one["known_until"]
    assert "log ends" not in _text(run([log], "--html", "-")[0])


def test_ctrl_c_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the answer is waited for."""
    ours, theirs = os.pipe()
    monkeypatch.setattr(aside, "count", lambda *_: os.read(ours, 1))  # for ever
    (tmp_path / "log").write_bytes(bytes(Trail().device("libhook", "start")))
    sources = reader.trail([str(tmp_path / "log")])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def counted() -> None:
        with aside.Counting(sources) as counting:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            counting.found()

    others = children()  # a test before may have left some that end by themselves
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            counted()
    finally:
        signal.signal(signal.SIGALRM, handler)
        reader.close(sources)
        os.close(ours)
        os.close(theirs)
    assert set(children()) <= set(others)


@pytest.mark.parametrize("piped", [False, True])
def test_missing_events_are_told(run: Run, piped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many, from when to when, and with which numbers; of a pipe, too."""
    log = b"".join(_without(_lines(), 500, 519))
    log += bytes(Trail(now=BEGIN + 2_000_000).device("libhook", "start")).replace(b":11)", b":1001)")
    line = "-- no trail from 2026-11-24 18:38:19 to 2026-11-24 18:38:40: 20 events are missing, number 500 to 519"
    if piped:
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(write, log)
        os.close(write)
        with open(read, encoding="ascii") as pipe:
            monkeypatch.setattr("sys.stdin", pipe)
            out, err = run([], "-if", "-")
    else:
        out, err = run([log])
    assert (line in out.splitlines(), err) == (True, "")
    if not piped:
        out, err = run([log], "--json")
        assert [one for one in map(json.loads, out.splitlines()) if "entry" not in one] == [
            {
                "silence": "20 events are missing, number 500 to 519",
                "node": None,
                "from": "2026-11-24T18:38:19.000+00:00",
                "to": "2026-11-24T18:38:40.000+00:00",
                "missing": {"count": 20, "from": 500, "to": 519},
            },
            {
                "trail": "log",
                "node": None,
                "from": "2026-11-24T18:30:01.000+00:00",
                "to": "2026-11-24T19:03:21.000+00:00",
            },
        ]
        assert err == ""
        assert "20 events are missing, number 500 to 519" in _text(run([log], "--html", "-")[0])


def test_an_excerpt_is_said_to_be_one(run: Run) -> None:
    """ausearch's output is all gaps: none of them is told."""
    chosen = b"".join(line for line in _lines() if b"type=PATH" in line)
    log = chosen + bytes(Trail(now=BEGIN + 2_000_000).device("libhook", "start"))
    assert [one["trail"] for one in _trails(run([log], "--json")[0])] == ["excerpt"]
    out, err = run([log])
    assert "missing" not in out
    assert err.endswith("/log0: an excerpt, by the events' numbers; what else is missing in it cannot be told\n")


@pytest.mark.parametrize("node", ["", "kvm1"])
def test_between_logs_that_are_given_each_no_gap_is_told(run: Run, node: str) -> None:
    """They may be of two hosts without a name. But what auditd has rotated goes on."""
    whole = _lines(node)
    device = bytes(Trail(node, now=BEGIN + 2_000_000).device("libhook", "start")).replace(b":11)", b":1001)")
    out = run([b"".join(whole[:100]), b"".join(whole[200:]) + device])[0]
    assert ("missing" in out, "is from 2026-11-24 18:30:01 to 2026-11-24 19:03:21" in out) == (False, True)


def test_a_rotated_log_that_is_gone_is_missing(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Somebody has removed audit.log.2."""
    parts = [_without(_lines(), 1, 600), _without(_lines(), 300, 1000)]
    for name, lines in zip(("audit.log", "audit.log.3"), parts, strict=True):
        (tmp_path / name).write_bytes(b"".join(lines))
    assert command.run("", parsing.parser().parse_args(["history", "-if", str(tmp_path)])) == 0
    assert b"301 events are missing, number 300 to 600" in capsysbinary.readouterr().out


def test_the_process_that_counts_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entries are told, and that events may be missing."""
    monkeypatch.setattr(aside, "count", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    out, err = run([bytes(Trail().device("libhook", "start"))])
    assert "start, held" in out
    assert err == "whether events are missing is not known: the process that counts them was killed, or failed\n"
    known = _trails(run([bytes(Trail().device("libhook", "start"))], "--json")[0])
    assert known == [{"trail": "unknown", "node": None, "from": None, "to": None}]


def _trails(text: str) -> list[dict[str, Any]]:
    return [one for one in map(json.loads, text.splitlines()) if "trail" in one]


def _two() -> list[bytes]:
    """kvm2's log ends a year before kvm1's: win11-1 had the card then."""
    old = Trail("kvm2").device("libhook", "start", vm="win11-1").raw("USER_ACCT", "x", after=60_000)
    new = Trail("kvm1", now=BEGIN + YEAR).device("libhook", "start", vm="web", uuid=OTHER, device="0000:02:00.0")
    return [bytes(old), bytes(new.raw("USER_ACCT", "x", after=60_000))]


def test_each_host_has_its_own_end(run: Run) -> None:
    """In the table and in JSON. What is asked of a time that one of them does not cover is said of that one."""
    out, err = run(_two())
    assert out.splitlines()[-2:] == [
        "-- the trail of kvm1 is from 2027-11-24 18:30:01 to 2027-11-24 18:31:01",
        "-- the trail of kvm2 is from 2026-11-24 18:30:01 to 2026-11-24 18:31:01",
    ]
    assert err == ""
    out = run(_two(), "--json")[0]
    known = {one["node"]: one["known_until"] for one in entries(out)}
    assert known == {"kvm1": "2027-11-24T18:31:01.000+00:00", "kvm2": "2026-11-24T18:31:01.000+00:00"}
    assert known == {one["node"]: one["to"] for one in _trails(out)}
    assert [one["from"][:4] for one in _trails(out)] == ["2027", "2026"]
    assert [one["node"] for one in _trails(run(_two(), "--json", "-n", "kvm2")[0])] == ["kvm2"]
    ended = Trail("kvm3").device("libhook", "start").device("libhook", "stop").raw("USER_ACCT", "x", after=60_000)
    assert run([bytes(ended)])[0].splitlines()[-1].startswith("-- the trail of kvm3 is from 2026-11-24 18:30:01 to ")
    said = run(_two(), "-ts", "2027-11-24T18:30:30")[0].splitlines()[0]
    assert said.endswith(
        "the trail of kvm2 covers 2026-11-24 18:30:01+00:00 to 2026-11-24 18:31:01+00:00, and not the time that is "
        "asked for"
    )
    assert "kvm1 covers" not in said


def test_the_page_draws_no_further_than_a_host_is_known(run: Run) -> None:
    """How long a guest has had a device ends there, and after it there is no trail of that host."""
    page = run(_two(), "--html", "-")[0]
    text = _text(page)
    assert "kvm2 : from 2026-11-24 18:31:01 on: its log ends then" in text
    assert "kvm1 : from 2026-11-24 18:30:01 to 2027-11-24 18:30:01 : its log begins then" in text
    assert "on kvm2 now: win11-1 when its log ends, 2026-11-24 18:31:01" in text
    assert "held by win11-1 since 2026-11-24 18:30:01 when its log ends, 2026-11-24 18:31:01" in text
    assert text.count("when its log ends") == 2
    assert text.count("1 min 0 s so far") == 2
    assert "365 d" not in text
    assert "kvm2" not in _text(run(_two(), "--html", "-", "-n", "kvm1")[0])
    assert "its log begins" not in _text(run(_two(), "--html", "-", "-ts", "2027-11-24T18:30:30")[0])
    odd = run([_two()[0] + b"node=x type=foo(1:2)\n", _two()[1]], "--html", "-")[0]
    assert "its log ends then" in _text(odd)


def _text(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.split("<body>")[1].split("<script>")[0])).split())
