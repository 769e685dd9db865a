# SPDX-License-Identifier: LGPL-2.1-or-later
"""A million records: libhook history beside ausearch -m VIRT_RESOURCE,VIRT_CONTROL, wall time and memory, turn about.

Four logs: as a host's log is, with a guest's records among those of everything else; of libvirt alone, as it writes
them; of host devices alone; and of guests that start once and never come again. Output goes to /dev/null.

With --against it is measured beside the libhook of another checkout instead, turn about, by the clock and in processor
time, which the process that counts events takes beside the reading. There the first log also comes in three variants:
of three hosts, whose lines a collector has mixed; with a line of auditd's own for ten; and with lines out of order, as
where several CPUs write at once.
"""

import argparse
import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIBHOOK = ["/usr/bin/python3", "-m", "libhook", "history"]
AUSEARCH = ["ausearch", "-m", "VIRT_RESOURCE,VIRT_CONTROL"]
TARGET = 1.5
AGAINST = 1.2
"""The same beside another libhook."""
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An environment in which only the first run compiles libhook."""
LIBVIRTD, HOOK = "/usr/sbin/libvirtd", "/usr/bin/python3.13"


class Log(NamedTuple):
    """What one log is like."""

    others: int
    """Records of other types, for each start or stop of a guest."""
    resources: int
    """Records of what is no host device, for each start."""
    once: bool = False
    """A guest that has stopped never comes again."""
    hosts: int = 1
    """So many write, in turn by chance."""
    own: float = 0
    """How many lines of auditd's own there are for each other."""
    late: int = 0
    """How many places a line may come too late."""


LOGS = {
    "among all else": Log(100, 2),
    "libvirt's alone": Log(0, 2),
    "host devices alone": Log(0, 0),
    "guests that come once": Log(0, 2, once=True),
}
VARIANTS = {
    "three hosts, mixed": Log(100, 2, hosts=3),
    "auditd's own among all else": Log(100, 2, own=0.1),
    "all else in disorder": Log(100, 2, late=4),
}


class Took(NamedTuple):
    """One run."""

    seconds: float
    mebibytes: float
    processor: float


class Writer:
    """Lines with a clock and a serial."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now, self.serial = 1_764_000_000_000, 0

    def line(self, kind: str, rest: str, *, more: bool = False) -> str:
        """One line, a little later than the one before; or of the same event."""
        if not more:
            self.now += self.chance.randrange(200)
            self.serial += 1
        return f"type={kind} msg=audit({self.now // 1000}.{self.now % 1000:03d}:{self.serial}): {rest}\n"

    def sent(self, kind: str, text: str, exe: str) -> str:
        """One that a program sent."""
        return self.line(
            kind,
            "pid=402 uid=0 auid=4294967295 ses=4294967295 subj=unconfined msg='"
            f'virt=kvm {text} exe="{exe}" hostname=? addr=? terminal=? res=success\'\x1dUID="root" AUID="unset"',
        )

    def other(self) -> Iterator[str]:
        """What a host's log is full of: a system call with its parts, or a login's."""
        if self.chance.random() < 0.5:
            yield self.line(
                "SYSCALL",
                "arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffd1 a2=0 a3=0 items=1 ppid=1 pid=42 "
                'auid=1000 uid=0 gid=0 tty=pts0 ses=3 comm="cat" exe="/usr/bin/cat" subj=unconfined key="watch"',
            )
            yield self.line("CWD", 'cwd="/root"', more=True)
            part = 'item=0 name="/etc/passwd" inode=123 dev=fe:00 mode=0100644 ouid=0 ogid=0'
            yield self.line("PATH", part, more=True)
        else:
            yield self.line("USER_ACCT", 'pid=1 uid=0 msg=\'op=PAM:accounting acct="root" exe="/usr/sbin/cron"\'')


def log(records: int, kind_of_log: Log) -> Iterator[str]:
    """So many records, of all hosts, in the order in which they come."""
    chance = random.Random(1)  # noqa: S311 - the same log each time
    hosts = [written(kind_of_log, chance) for _ in range(kind_of_log.hosts)]
    waiting: list[tuple[int, str]] = []
    for at in range(records):
        number = chance.randrange(len(hosts))
        line = next(hosts[number])
        line = f"node=kvm{number} {line}" if kind_of_log.hosts > 1 else line
        heapq.heappush(waiting, (at + chance.randrange(kind_of_log.late + 1), line))
        if len(waiting) > kind_of_log.late:
            yield heapq.heappop(waiting)[1]
    yield from (line for _, line in sorted(waiting))


def written(kind_of_log: Log, chance: random.Random) -> Iterator[str]:
    """What one host writes, without end: guests that start and stop, and what else its log holds."""
    writer = Writer(chance)

    def guest() -> str:
        return f'vm="guest{chance.randrange(10**6)}" uuid={uuid.UUID(int=chance.getrandbits(128))}'

    guests = [guest() for _ in range(200)]
    running: set[int] = set()
    while True:
        for _ in range(kind_of_log.others):
            yield from writer.other()
            if chance.random() < kind_of_log.own * 2:  # it has two lines, in the mean
                yield f"type=DAEMON_ACCEPT msg=audit({writer.now // 1000}.000:{chance.randrange(10**4)}): op=connect\n"
        number = chance.randrange(len(guests))
        about, device = guests[number], f'device="0000:{number:02x}:00.0"'
        if number in running:
            running.remove(number)
            if kind_of_log.once:
                guests[number] = guest()
            yield writer.sent("VIRT_RESOURCE", f"resrc=dev reason=stop {about} bus=pci {device}", HOOK)
            yield writer.sent("VIRT_CONTROL", f"op=stop reason=shutdown {about} vm-pid=0", LIBVIRTD)
            continue
        running.add(number)
        for exe in (HOOK, LIBVIRTD):
            yield writer.sent("VIRT_RESOURCE", f"resrc=dev reason=start {about} bus=pci {device}", exe)
        for kind in ("mem", "vcpu")[: kind_of_log.resources]:
            yield writer.sent("VIRT_RESOURCE", f"resrc={kind} reason=start {about} old-{kind}=0 new-{kind}=1", LIBVIRTD)
        yield writer.sent("VIRT_CONTROL", f"op=start reason=booted {about} vm-pid={writer.serial}", LIBVIRTD)


def run(command: list[str], tree: Path = ROOT) -> Took:
    """A command's wall time, the most memory it had, and the processor time of it and of its children."""
    with open(os.devnull, "wb") as nowhere:
        start = time.monotonic()
        child = subprocess.Popen(
            command, cwd=tree, env=COMPILED, stdin=subprocess.DEVNULL, stdout=nowhere, stderr=nowhere
        )
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"bench: {' '.join(command)}: exit code {child.returncode}")
    return Took(seconds, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime)


class Figure(NamedTuple):
    """One way of showing one log."""

    log: str
    way: str
    ratio: float
    took: Took
    ausearch: Took

    @property
    def met(self) -> bool:
        """Whether it is fast enough."""
        return round(self.ratio, 2) <= TARGET

    @property
    def line(self) -> str:
        """A row of the table."""
        return (
            f"{self.ratio:>7.2f}{self.took.seconds:>8.2f}{self.took.mebibytes:>6.0f}{self.ausearch.seconds:>14.2f}"
            f"{self.ausearch.mebibytes:>6.0f}   {self.way} of {self.log} (at most {TARGET}: "
            f"{'met' if self.met else 'MISSED'})"
        )


def measure(name: str, records: int, rounds: int) -> Iterator[Figure]:
    """Both ways of showing a log, and ausearch, turn about."""
    with tempfile.NamedTemporaryFile("w", prefix="libhook-bench-") as file:
        file.writelines(log(records, LOGS[name]))
        file.flush()
        commands = {
            "ausearch": [*AUSEARCH, "-if", file.name],
            "table": [*LIBHOOK, "-if", file.name],
            "json": [*LIBHOOK, "--json", "-if", file.name],
        }
        runs: dict[str, list[Took]] = {way: [] for way in commands}
        for _ in range(rounds):
            for way, command in commands.items():
                runs[way].append(run(command))
    took = {
        way: Took(
            statistics.median(each.seconds for each in all_),
            max(each.mebibytes for each in all_),
            statistics.median(each.processor for each in all_),
        )
        for way, all_ in runs.items()
    }
    for way in ("table", "json"):
        yield Figure(name, way, took[way].seconds / took["ausearch"].seconds, took[way], took["ausearch"])


class Ratio(NamedTuple):
    """One way of showing one log, beside another libhook."""

    log: str
    way: str
    ratio: float
    """Of clock time, which is what somebody waits. It needs a quiet machine with two CPUs."""
    processor: float
    took: Took
    other: Took

    @property
    def met(self) -> bool:
        """Whether it takes no longer than it may."""
        return round(self.ratio, 2) <= AGAINST

    @property
    def line(self) -> str:
        """A row of the table."""
        verdict = f"at most {AGAINST}: {'met' if self.met else 'MISSED'}"
        return (
            f"{self.ratio:>7.2f}{self.took.seconds:>8.2f}{self.other.seconds:>8.2f}{self.processor:>12.2f}"
            f"{self.took.processor:>8.2f}{self.other.processor:>8.2f}   {self.way} of {self.log} ({verdict})"
        )


def compare(name: str, kind_of_log: Log, records: int, rounds: int, other: Path) -> Iterator[Ratio]:
    """Both ways of showing a log, of this libhook and of the other, turn about; the first round does not count."""
    with tempfile.NamedTemporaryFile("w", prefix="libhook-bench-") as file:
        file.writelines(log(records, kind_of_log))
        file.flush()
        for way, options in {"table": [], "json": ["--json"]}.items():
            command = [*LIBHOOK, *options, "-if", file.name]
            pairs = [(run(command), run(command, other)) for _ in range(rounds + 1)][1:]
            here, there = (Took(*map(statistics.median, zip(*all_, strict=True))) for all_ in zip(*pairs, strict=True))
            yield Ratio(name, way, here.seconds / there.seconds, here.processor / there.processor, here, there)


def main() -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="tests/bench/history", description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default %(default)s)")
    parser.add_argument("--records", type=int, default=1_000_000, help="of each log (default %(default)s)")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another checkout, to compare with")
    options = parser.parse_args()
    figures: list[Figure] | list[Ratio]
    if options.against:
        tree, logs = options.against.resolve(), {**LOGS, **VARIANTS}
        figures = [one for each in logs.items() for one in compare(*each, options.records, options.rounds, tree)]
        head = f"{'ratio':>7}{'s':>8}{'there':>8}{'of CPU':>12}{'CPU s':>8}{'there':>8}"
    else:
        figures = [figure for name in LOGS for figure in measure(name, options.records, options.rounds)]
        head = f"{'ratio':>7}{'s':>8}{'MiB':>6}   ausearch: s   MiB"
    if options.json:
        shown = [{**figure._asdict(), "met": figure.met} for figure in figures]
        print(json.dumps({"records": options.records, "load": os.getloadavg()[0], "figures": shown}, indent=2))
        return 0
    print(f"{options.records:,} records, medians of {options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(head)
    for figure in figures:
        print(figure.line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
