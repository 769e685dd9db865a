# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events of several hosts are counted in one log, where a collector has mixed their lines."""

import random
from collections.abc import Sequence

import pytest
from trail_writing import BEGIN

from libhook.history.gaps import Host
from libhook.history.numbers import Numbers

NODES = ("kvm1", "kvm2", "kvm3")


def _mixed(missing: tuple[int, ...] = ()) -> bytes:
    """Three hosts take turns by chance. kvm2 lacks these events."""
    chance, number = random.Random(1), dict.fromkeys(NODES, 1000)  # noqa: S311 - the same each time
    lines = []
    for second in range(3000):
        node = chance.choice(NODES)
        number[node] += 1
        if node != "kvm2" or number[node] not in missing:
            lines.append(f"\nnode={node} type=CWD msg=audit({BEGIN // 1000 + second}.000:{number[node]}): x")
    return "".join(lines).encode()


def _counted(*pieces: bytes) -> list[tuple[str | None, int, int]]:
    numbers = Numbers()
    numbers.log("log")
    for piece in pieces:
        numbers.take(piece)
    return [(node, gap.first, gap.last) for node, gap in numbers.gone()]


def _alone(numbers: Sequence[int], lines: int, times: Sequence[int] = ()) -> list[bytes]:
    """One host's events with these numbers, each a second after the one before or at its own, in pieces of so many."""
    each = zip(times or range(len(numbers)), numbers, strict=True)
    log = [f"\ntype=CWD msg=audit({BEGIN // 1000 + second}.000:{number}): x".encode() for second, number in each]
    return [b"".join(log[at : at + lines]) for at in range(0, len(log), lines)]


@pytest.mark.parametrize("lines", [1, 50, 2000])
def test_numbers_that_wrap_are_not_missing(lines: int) -> None:
    """The kernel's have 32 bits. Nothing is between the highest and the lowest; what is missing later is found."""
    numbers = [(at - 300) % (1 << 32) for at in range(1300) if not 800 <= at < 820]
    assert _counted(*_alone(numbers, lines)) == [(None, 500, 519)]


@pytest.mark.parametrize("lines", [1, 50, 2000])
@pytest.mark.parametrize("last", [300, 1500], ids=["fewer events", "more events"])
def test_a_boot_without_a_record_hides_no_gap(lines: int, last: int) -> None:
    """Somebody has cut out the start of auditd. That is told, and so is what is missing later; a late line is not."""
    first, late, second = [*range(11, 900), *range(901, 1000)], [500, 900], [*range(60, 200), *range(220, last)]
    numbers = [*first, *late, *second]
    times = [*first, *late, *range(1000, 1000 + len(second))]
    assert _counted(*_alone(numbers, lines, times)) == [(None, -1, -1), (None, 200, 219)]
    assert _counted(*_alone([*first, *range(400, 500)], lines, [*first, *range(400, 500)])) == [(None, 900, 900)]


def test_lines_of_several_hosts_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is looked at alone where nothing is missing or little; else only those of the host that lacks so much."""
    taken = []
    take = Host.take

    def seen(host: Host, *line: object) -> None:
        taken.append(host)
        take(host, *line)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "take", seen)
    assert _counted(_mixed()) == []
    assert taken == []
    assert _counted(_mixed((1500, 1501))) == [("kvm2", 1500, 1501)]
    assert taken == []
    assert len(_counted(_mixed(tuple(range(1100, 1900, 20))))) == 40
    assert len(set(taken)) == 1


def test_what_is_no_record_in_between_is_passed_over() -> None:
    """It has no number, and is no host's."""
    lines = _mixed((1500, 1501)).split(b"\n")
    for odd in (
        b"node=x type=foo(1:2)",
        b"node=kvm2 type=foo(1:1502)",
        b"text",
        b"node=kvm1 type=CWD msg=audit(1.000:x)",
    ):
        assert _counted(b"\n".join([*lines[:900], odd, *lines[900:]])) == [("kvm2", 1500, 1501)], odd


def test_lines_of_auditd_cost_no_more_than_those_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a gap. auditd's number fills no gap of the kernel's, and the lines far from both are not looked at."""
    taken = []
    take = Host.take

    def seen(host: Host, *line: object) -> None:
        taken.append(line)
        take(host, *line)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "take", seen)
    for node in (b"", b"node=kvm2 "):
        lines = [line for line in _mixed((1500,)).split(b"\n") if line[:9] in (b"", b"node=kvm2")]
        lines = [line.replace(b"node=kvm2 ", node) for line in lines]
        lines.insert(40, node + b"type=DAEMON_CONFIG msg=audit(%d.000:1500): x" % (BEGIN // 1000))
        del taken[:]
        assert len(_counted(b"\n".join(lines))) == 1
        assert 0 < len(taken) < len(lines) / 4
