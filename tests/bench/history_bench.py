# SPDX-License-Identifier: LGPL-2.1-or-later
"""A million records: libhook history beside ausearch -m VIRT_RESOURCE,VIRT_CONTROL, wall time and memory, turn about.

Four logs: as a host's log is, with a guest's records among those of everything else; of libvirt alone, as it writes
them; of host devices alone; and of guests that start once and never come again. Output goes to /dev/null.
"""

import argparse
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
LIBVIRTD, HOOK = "/usr/sbin/libvirtd", "/usr/bin/python3.13"


class Log(NamedTuple):
    """What one log is like."""

    others: int
    """Records of other types, for each start or stop of a guest."""
    resources: int
    """Records of what is no host device, for each start."""
    once: bool = False
    """A guest that has stopped never comes again."""


LOGS = {
    "among all else": Log(100, 2),
    "libvirt's alone": Log(0, 2),
    "host devices alone": Log(0, 0),
    "guests that come once": Log(0, 2, once=True),
}


class Took(NamedTuple):
    """One run."""

    seconds: float
    mebibytes: float


class Writer:
    """Lines with a clock and a serial."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now, self.serial = 1_764_000_000_000, 0

    def line(self, kind: str, rest: str) -> str:
        """One line, a little later than the one before."""
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
            yield self.line("CWD", 'cwd="/root"')
            yield self.line("PATH", 'item=0 name="/etc/passwd" inode=123 dev=fe:00 mode=0100644 ouid=0 ogid=0')
        else:
            yield self.line("USER_ACCT", 'pid=1 uid=0 msg=\'op=PAM:accounting acct="root" exe="/usr/sbin/cron"\'')


def log(records: int, kind_of_log: Log) -> Iterator[str]:
    """So many records: guests that start and stop, and what else the log holds."""
    chance = random.Random(1)  # noqa: S311 - the same log each time
    writer = Writer(chance)

    def guest() -> str:
        return f'vm="guest{chance.randrange(10**6)}" uuid={uuid.UUID(int=chance.getrandbits(128))}'

    guests = [guest() for _ in range(200)]
    running: set[int] = set()
    while writer.serial < records:
        for _ in range(kind_of_log.others):
            yield from writer.other()
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


def run(command: list[str]) -> Took:
    """A command's wall time and the most memory it had."""
    with open(os.devnull, "wb") as nowhere:
        start = time.monotonic()
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=nowhere, stderr=nowhere)
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"bench: {' '.join(command)}: exit code {child.returncode}")
    return Took(seconds, used.ru_maxrss / 1024)


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
        way: Took(statistics.median(each.seconds for each in all_), max(each.mebibytes for each in all_))
        for way, all_ in runs.items()
    }
    for way in ("table", "json"):
        yield Figure(name, way, took[way].seconds / took["ausearch"].seconds, took[way], took["ausearch"])


def main() -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="tests/bench/history", description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default %(default)s)")
    parser.add_argument("--records", type=int, default=1_000_000, help="of each log (default %(default)s)")
    options = parser.parse_args()
    figures = [figure for name in LOGS for figure in measure(name, options.records, options.rounds)]
    if options.json:
        shown = [{**figure._asdict(), "met": figure.met} for figure in figures]
        print(json.dumps({"records": options.records, "load": os.getloadavg()[0], "figures": shown}, indent=2))
        return 0
    print(f"{options.records:,} records, medians of {options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'ratio':>7}{'s':>8}{'MiB':>6}   ausearch: s   MiB")
    for figure in figures:
        print(figure.line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
