# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook history`` says from when to when it knows each host's trail, and which events are missing in it."""

import fcntl
import json
import os
import random
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from family import children
from trail_writing import BEGIN, OTHER, History, Trail, sources

from libhook.history import aside, reader
from libhook.history.gaps import Host
from libhook.history.numbers import Numbers

YEAR = 365 * 86_400_000
NODES = ("kvm1", "kvm2", "kvm3")
DEVICE = bytes(Trail(now=BEGIN + 2_000_000).device("libhook", "start")).replace(b":11)", b":1001)")
"""It goes on with the numbers of _lines."""


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


def _counted(*pieces: bytes) -> list[tuple[str | None, int, int]]:
    """The host, and the first missing number and the last, of each gap."""
    numbers = Numbers()
    numbers.log("log")
    for piece in pieces:
        numbers.take(piece)
    return [(node, gap.first, gap.last) for node, gap in numbers.gone()]


def _pieces(lines: list[bytes], size: int) -> Iterator[bytes]:
    """Of about so many bytes."""
    piece = b""
    for line in lines:
        piece += b"\n" + line.rstrip(b"\n")
        if len(piece) >= size:
            yield piece
            piece = b""
    if piece:
        yield piece


def _gaps(lines: list[bytes], size: int = 1 << 18) -> list[tuple[int, int]]:
    return [gap[1:] for gap in _counted(*_pieces(lines, size))]


def _number(line: bytes) -> int:
    return int(line.partition(b":")[2].partition(b")")[0])


def _without(lines: list[bytes], first: int, last: int) -> list[bytes]:
    return [line for line in lines if b"DAEMON_" in line or not first <= _number(line) <= last]


def _shaken(lines: list[bytes]) -> list[bytes]:
    """As two CPUs, or three, write at once."""
    chance = random.Random(1)  # noqa: S311 - the same each time
    mixed = [line for _, line in sorted((at + chance.random() * 6, line) for at, line in enumerate(lines))]
    assert mixed != lines
    return mixed


def _late() -> list[bytes]:
    """The next boot, of which event 505 comes late."""
    lines = _lines(events=600)
    at = next(at for at, line in enumerate(lines) if _number(line) == 505)
    lines[at], lines[at + 2] = lines[at + 2], lines[at]
    return lines


def _alone(numbers: Sequence[int], times: Sequence[int] = ()) -> list[bytes]:
    """One host's events with these numbers, each a second after the one before or at its own time."""
    each = zip(times or range(len(numbers)), numbers, strict=True)
    return [f"type=CWD msg=audit({BEGIN // 1000 + second}.000:{one}): x\n".encode() for second, one in each]


def _uncovered(last: int) -> list[bytes]:
    """Two boots, each with a gap, and no start of auditd between; the first's gap is filled by a line that is late."""
    first, late, second = [*range(11, 900), *range(901, 1000)], [500, 900], [*range(60, 200), *range(220, last)]
    return _alone([*first, *late, *second], [*first, *late, *range(1000, 1000 + len(second))])


CUT = _without(_lines(), 500, 519)
AGAIN = [*range(11, 900), *range(901, 1000), *range(400, 500)]
STAMP = b"msg=audit(%d.000:77): op=start\n" % (BEGIN // 1000)
START = b"type=DAEMON_START " + STAMP
BOOT = b"type=SYSTEM_BOOT " + STAMP.replace(b":77)", b":1)")
LOGS = {
    "a whole log": (_lines(), []),
    "events cut out": (CUT, [(500, 519)]),
    "of a host with a name": (_without(_lines("kvm1"), 500, 519), [(500, 519)]),
    "two gaps": (_without(_without(_lines(), 500, 500), 601, 602), [(500, 500), (601, 602)]),
    "the first and the last are not missing": (_without(_without(_lines(), 1, 10), 990, 1000), []),
    "auditd's own event in between has no such number": (_without(_lines(), 99, 102), [(99, 102)]),
    "lines out of order": (_shaken(CUT), [(500, 519)]),
    "after a boot numbers are low again": ([*_lines(events=50), START, *_lines(events=50)], []),
    "auditd started anew, meanwhile is a time without a trail": (
        [*_lines(events=50), START, *_without(_lines(), 1, 300)], []
    ),
    "auditd started anew, and then": ([*_lines(events=50), START, *_without(_lines(), 30, 40)], [(30, 40)]),
    "a late event of auditd's next start fills no gap": ([*CUT, START, *_late()], [(500, 519)]),
    "a late event of the next boot fills no gap": ([*CUT, BOOT, *_late()], [(500, 519)]),
    "a start of auditd is cut out": (_uncovered(300), [(-1, -1), (200, 219)]),
    "it is cut out, and the next boot has more events": (_uncovered(1500), [(-1, -1), (200, 219)]),
    "lines that come again": (_alone(AGAIN, AGAIN), [(900, 900)]),
    "numbers of 32 bits wrap": (
        _alone([(at - 300) % (1 << 32) for at in range(1300) if not 800 <= at < 820]), [(500, 519)]
    ),
    "through syslog": ([b"Nov 24 18:30:00 kvm1 audisp-syslog[812]: " + line for line in CUT], [(500, 519)]),
    "a type of a newer kernel has a number": (
        [line.replace(b"type=SYSCALL", b"type=UNKNOWN[1334]") for line in _lines()], []
    ),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 1_000, 1 << 18])
@pytest.mark.parametrize(("log", "missing"), LOGS.values(), ids=LOGS)
def test_missing_events_are_found(log: list[bytes], missing: list[tuple[int, int]], size: int) -> None:
    """Exactly these, wherever a piece of the log ends."""
    assert _gaps(log, size) == missing


@pytest.mark.parametrize("size", [60, 1_000, 1 << 18])
def test_what_is_no_number_misleads_nobody(size: int) -> None:
    """Lines that are cut off, numbers that are too long, and text that looks like a line."""
    odd = [b"type=", b"type=CWD msg=audit(1.000:x): ", b"type=CWD msg=audit(:", b"text", b"", b"node=x type=foo(1:2)"]
    odd += [b"type=CWD msg=audit(%s.000:7): " % (b"9" * 20), b"type=CWD msg=audit(1.000:%s): " % (b"9" * 5000)]
    for line in (line + b"\n" for line in odd):
        for whole in (_lines(), CUT, _without(_lines(), 500, 500)):
            for at in (0, 900, len(whole)):
                assert _gaps([*whole[:at], line, *whole[at:]], size) == _gaps(whole, size), line


def test_a_late_line_is_not_taken_for_one_that_is_missing() -> None:
    """One number from elsewhere, and as many as there would be."""
    cut = _without(_lines(), 500, 500)
    first, at = (next(at for at, line in enumerate(cut) if _number(line) == number) for number in (490, 520))
    parts = (cut[:first], [*cut[first:at], b"type=PATH msg=audit(1.000:489): x\n"], cut[at:])
    assert _counted(*(piece for part in parts for piece in _pieces(part, 1 << 18))) == [(None, 500, 500)]


def _mixed(missing: tuple[int, ...] = ()) -> bytes:
    """A collector's log: three hosts take turns by chance. kvm2 lacks these events."""
    chance, number = random.Random(1), dict.fromkeys(NODES, 1000)  # noqa: S311 - the same each time
    lines = []
    for second in range(3000):
        node = chance.choice(NODES)
        number[node] += 1
        if node != "kvm2" or number[node] not in missing:
            lines.append(f"\nnode={node} type=CWD msg=audit({BEGIN // 1000 + second}.000:{number[node]}): x")
    return "".join(lines).encode()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Host]:
    """The host of each line that was looked at alone."""
    taken: list[Host] = []
    take = Host.take

    def seen(host: Host, *line: object) -> None:
        taken.append(host)
        take(host, *line)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "take", seen)
    return taken


def test_lines_of_several_hosts_are_taken_together(taken: list[Host]) -> None:
    """None is looked at alone where nothing is missing or little; else only those of the host that lacks so much."""
    assert (_counted(_mixed()), taken) == ([], [])
    assert (_counted(_mixed((1500, 1501))), taken) == ([("kvm2", 1500, 1501)], [])
    assert len(_counted(_mixed(tuple(range(1100, 1900, 20))))) == 40
    assert len(set(taken)) == 1


@pytest.mark.parametrize(
    "odd",
    [b"node=x type=foo(1:2)", b"node=kvm2 type=foo(1:1502)", b"text", b"node=kvm1 type=CWD msg=audit(1.000:x)"],
)
def test_what_is_no_record_in_between_is_passed_over(odd: bytes) -> None:
    """It has no number, and is no host's."""
    lines = _mixed((1500, 1501)).split(b"\n")
    assert _counted(b"\n".join([*lines[:900], odd, *lines[900:]])) == [("kvm2", 1500, 1501)]


@pytest.mark.parametrize("node", [b"", b"node=kvm2 "])
def test_lines_of_auditd_cost_no_more_than_those_around_them(taken: list[Host], node: bytes) -> None:
    """Nor does a gap. auditd's number fills no gap of the kernel's, and the lines far from both are not looked at."""
    lines = [line for line in _mixed((1500,)).split(b"\n") if line[:9] in (b"", b"node=kvm2")]
    lines = [line.replace(b"node=kvm2 ", node) for line in lines]
    lines.insert(40, node + b"type=DAEMON_CONFIG msg=audit(%d.000:1500): x" % (BEGIN // 1000))
    assert len(_counted(b"\n".join(lines))) == 1
    assert 0 < len(taken) < len(lines) / 4


def test_what_another_log_has_is_not_missing(history: History) -> None:
    """Of the same host and time. Of two copies a gap is told once, and an excerpt beside them hides nothing."""
    whole, cut = b"".join(_lines()), b"".join(CUT)
    assert "missing" not in history([cut, whole + DEVICE]).out
    assert history([cut, cut + DEVICE]).out.count("20 events are missing") == 1
    said = history([b"".join(line for line in _lines() if b"type=PATH" in line), cut + DEVICE])
    assert (said.out.count("20 events are missing"), said.err.count("excerpt")) == (1, 1)


def test_a_host_is_known_as_long_as_its_entries_are(history: History) -> None:
    """Its clock was set back in the middle."""
    trail = Trail().device("libhook", "start", after=7_200_000)
    log = bytes(trail) + bytes(Trail().device("libhook", "start", device="0000:02:00.0", after=60_000))
    assert all(one["from"] <= one["known_until"] for one in history(log, "--json").entries)
    assert "log ends" not in history.page(log).seen


def test_ctrl_c_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes while the answer is waited for."""
    ours, theirs = os.pipe()
    monkeypatch.setattr(aside, "count", lambda *_: os.read(ours, 1))  # for ever
    (tmp_path / "log").write_bytes(bytes(Trail().device("libhook", "start")))
    opened = sources(tmp_path / "log")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def counted() -> None:
        with aside.Counting(opened) as counting:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            counting.found()

    others = children()  # a test before may have left some that end by themselves
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            counted()
    finally:
        signal.signal(signal.SIGALRM, handler)
        reader.close(opened)
        os.close(ours)
        os.close(theirs)
    assert set(children()) <= set(others)


def test_missing_events_are_told(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many, from when to when, and with which numbers; in the table, of a pipe too, in JSON and on the page."""
    log = b"".join(CUT) + DEVICE
    why = "20 events are missing, number 500 to 519"
    line = f"-- no trail from 2026-11-24 18:38:19 to 2026-11-24 18:38:40: {why}"
    said = history(log)
    assert (line in said.lines, said.err) == (True, "")
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(write, log)
    os.close(write)
    with open(read, encoding="ascii") as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        said = history(None, "-if", "-")
    assert (line in said.lines, said.err) == (True, "")
    said = history(log, "--json")
    assert [one for one in map(json.loads, said.lines) if "entry" not in one] == [
        {
            "silence": why, "node": None,
            "from": "2026-11-24T18:38:19.000+00:00", "to": "2026-11-24T18:38:40.000+00:00",
            "missing": {"count": 20, "from": 500, "to": 519},
        },
        {
            "trail": "log", "node": None,
            "from": "2026-11-24T18:30:01.000+00:00", "to": "2026-11-24T19:03:21.000+00:00",
        },
    ]  # fmt: skip
    assert said.err == ""
    assert why in history.page(log).seen


def test_an_excerpt_is_said_to_be_one(history: History) -> None:
    """ausearch's output is all gaps: none of them is told."""
    log = b"".join(line for line in _lines() if b"type=PATH" in line)
    log += bytes(Trail(now=BEGIN + 2_000_000).device("libhook", "start"))
    assert [one["trail"] for one in _trails(history(log, "--json").out)] == ["excerpt"]
    said = history(log)
    assert "missing" not in said.out
    assert said.err.endswith("/log: an excerpt, by the events' numbers; what else is missing in it cannot be told\n")


@pytest.mark.parametrize("node", ["", "kvm1"])
def test_between_logs_that_are_given_each_no_gap_is_told(history: History, node: str) -> None:
    """They may be of two hosts without a name."""
    whole = _lines(node)
    device = bytes(Trail(node, now=BEGIN + 2_000_000).device("libhook", "start")).replace(b":11)", b":1001)")
    out = history([b"".join(whole[:100]), b"".join(whole[200:]) + device]).out
    assert ("missing" in out, "is from 2026-11-24 18:30:01 to 2026-11-24 19:03:21" in out) == (False, True)


def test_what_auditd_has_rotated_goes_on(history: History) -> None:
    """Somebody has removed audit.log.2."""
    for name, lines in (("audit.log", _without(_lines(), 1, 600)), ("audit.log.3", _without(_lines(), 300, 1000))):
        (history.folder / name).write_bytes(b"".join(lines))
    assert "301 events are missing, number 300 to 600" in history(None, "-if", str(history.folder)).out


def test_the_process_that_counts_is_killed(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entries are told, and that events may be missing."""
    monkeypatch.setattr(aside, "count", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    log = Trail().device("libhook", "start")
    assert "start, held" in history(log).out
    assert history(log).err == (
        "whether events are missing is not known: the process that counts them was killed, or failed\n"
    )
    assert _trails(history(log, "--json").out) == [{"trail": "unknown", "node": None, "from": None, "to": None}]


def _trails(text: str) -> list[dict[str, Any]]:
    return [one for one in map(json.loads, text.splitlines()) if "trail" in one]


OLD = bytes(Trail("kvm2").device("libhook", "start", vm="win11-1").raw("USER_ACCT", "x", after=60_000))
NEW = bytes(
    Trail("kvm1", now=BEGIN + YEAR).device("libhook", "start", vm="web", uuid=OTHER, device="0000:02:00.0")
    .raw("USER_ACCT", "x", after=60_000)
)  # fmt: skip
TWO = [OLD, NEW]
"""kvm2's log ends a year before kvm1's: win11-1 had the card then."""


def test_each_host_has_its_own_end(history: History) -> None:
    """In the table and in JSON. What is asked of a time that one of them does not cover is said of that one."""
    said = history(TWO)
    assert said.err == ""
    assert said.lines[-2:] == [
        "-- the trail of kvm1 is from 2027-11-24 18:30:01 to 2027-11-24 18:31:01",
        "-- the trail of kvm2 is from 2026-11-24 18:30:01 to 2026-11-24 18:31:01",
    ]
    said = history(TWO, "--json")
    known = {one["node"]: one["known_until"] for one in said.entries}
    assert known == {"kvm1": "2027-11-24T18:31:01.000+00:00", "kvm2": "2026-11-24T18:31:01.000+00:00"}
    assert known == {one["node"]: one["to"] for one in _trails(said.out)}
    assert [one["from"][:4] for one in _trails(said.out)] == ["2027", "2026"]
    assert [one["node"] for one in _trails(history(TWO, "--json", "-n", "kvm2").out)] == ["kvm2"]
    ended = Trail("kvm3").device("libhook", "start").device("libhook", "stop").raw("USER_ACCT", "x", after=60_000)
    assert history(ended).lines[-1].startswith("-- the trail of kvm3 is from 2026-11-24 18:30:01 to ")
    first = history(TWO, "-ts", "2027-11-24T18:30:30").lines[0]
    assert first.endswith(
        "the trail of kvm2 covers 2026-11-24 18:30:01+00:00 to 2026-11-24 18:31:01+00:00, and not the time that is "
        "asked for"
    )
    assert "kvm1 covers" not in first


def test_the_page_draws_no_further_than_a_host_is_known(history: History) -> None:
    """How long a guest has had a device ends there, and after it there is no trail of that host."""
    seen = history.page(TWO).seen
    assert "kvm2 : from 2026-11-24 18:31:01 on: its log ends then" in seen
    assert "kvm1 : from 2026-11-24 18:30:01 to 2027-11-24 18:30:01: its log begins then" in seen
    assert "on kvm2 now: win11-1 when its log ends, 2026-11-24 18:31:01" in seen
    assert "held by win11-1 since 2026-11-24 18:30:01 when its log ends, 2026-11-24 18:31:01" in seen
    assert (seen.count("when its log ends"), seen.count("1 min 0 s so far"), "365 d" in seen) == (2, 2, False)
    assert "kvm2" not in history.page(TWO, "-n", "kvm1").seen
    assert "its log begins" not in history.page(TWO, "-ts", "2027-11-24T18:30:30").seen
    assert "its log ends then" in history.page([OLD + b"node=x type=foo(1:2)\n", NEW]).seen


def test_hours_are_told_in_a_trail_of_a_year(history: History) -> None:
    """Although they are less than a column of the time line: who has the device now is not known."""
    logs = [Trail(node).raw("USER_ACCT", "x") for node in ("kvm2", "kvm1")]
    for log, after in zip(logs, (YEAR - 36_000_000, YEAR), strict=True):
        log.raw("USER_ACCT", "x", after=after).device("libhook", "start")
    seen = history.page(logs).seen
    assert re.search(r"on kvm2 now: win11 when its log ends, 2027-11-2", seen)
    assert "kvm1 : " not in seen


@pytest.mark.parametrize("reason", ["start", "stop", ""])
def test_a_trail_of_one_record_ends_with_it(history: History, reason: str) -> None:
    """It goes from this moment to this moment, and no host's log ends before it. Also where no device is named."""
    seen = history.page(Trail("kvm1").device("libhook", reason) if reason else Trail("kvm1").raw("USER_ACCT", "x")).seen
    assert re.search(r"From the audit trail, ([-0-9]{10} [:0-9]{8}) to \1 \(local", seen)
    assert re.search(r"From ([-0-9]{10} [:0-9]{8}) to \1 no gap in the trail is recorded\.", seen)
    assert "log ends" not in seen


def test_a_gap_of_a_host_without_a_name_is_not_one_of_all(history: History) -> None:
    """auditd writes no name of its own host. Beside logs of others, that is said."""
    own = Trail().device("libhook", "start").raw("USER_ACCT", "x", after=60_000)
    own.raw("DAEMON_END", "op=terminate").raw("DAEMON_START", "op=start", after=60_000)
    other = Trail("kvm1").device("libhook", "start", vm="web", uuid=OTHER).raw("USER_ACCT", "x", after=90_000)
    silent, known = history([own, other]).lines[-3:-1]
    assert silent.startswith("-- the host without a name: no trail from 2026-11-2")
    assert known.startswith("-- the trail of the host without a name is from 2026-11-2")
    before = history([own, other], "-ts", "2026-11-23").out
    assert "; the trail of the host without a name covers 2026-11-2" in before
    assert "None" not in before
    assert "-- the host without a name: no trail" in history([own, other], "--vm", "none").out
    assert "the host without a name: from 2026-11-2" in history.page([own, other]).seen
    assert "without a name" not in history(own).out + history.page(own).out
