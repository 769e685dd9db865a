# SPDX-License-Identifier: LGPL-2.1-or-later
"""Events of several hosts are counted in one log, where a collector has mixed their lines."""

import random

import pytest
from trail_writing import BEGIN

from libhook.history.numbers import Host, Numbers

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


def _counted(piece: bytes) -> list[tuple[str | None, int, int]]:
    numbers = Numbers()
    numbers.log("log")
    numbers.take(piece)
    return [(node, gap.first, gap.last) for node, gap in numbers.gone()]


def test_lines_of_several_hosts_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is looked at alone where nothing is missing; else only those of the host that lacks something."""
    taken = []
    take = Host.take

    def seen(host: Host, *line: object) -> None:
        taken.append(host)
        take(host, *line)  # type: ignore[arg-type]

    monkeypatch.setattr(Host, "take", seen)
    assert _counted(_mixed()) == []
    assert taken == []
    assert _counted(_mixed((1500, 1501))) == [("kvm2", 1500, 1501)]
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
