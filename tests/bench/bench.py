# SPDX-License-Identifier: LGPL-2.1-or-later
"""What libhook costs whoever starts a guest: each figure is a ratio of medians taken turn about in one run.

Everything runs on simulated hosts, as libvirtd would call it; handing over a real device beside other tools is timed
in the lab: tests/lab/run --bench, or --lab here.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import lives
import timing
from lives import TOP, Life
from timing import Case, Sample, medians, timed

PYTHON = ["/usr/bin/python3", "-I", "-S", "-c", "pass"]
BARE = "bare Python"
OTHERS = "prepare, with settings for another guest"
HOOK = "its imports"
SIMULATED = "its imports and the simulation's"
TARGETS = {"prepare": 5.0, "start": 4.5, "started": 1.0, "release": 3.5}
"""Of one device."""
MANY = {8: {"prepare": 1.6, "release": 1.6}, 64: {"prepare": 3.0}}
"""Targets by the number of devices."""
WAITED = ("prepare", "start", "release")
"""Where the launcher waits for Python, and so for the import of the simulation."""
SHORT = 10
"""Runs a round of what takes a few milliseconds."""


class Figure(NamedTuple):
    """One ratio."""

    what: str
    against: str
    ratio: float
    cpu_ratio: float | None
    """Of processor time, user and system, which a busy machine changes less."""
    best_ratio: float | None
    """Of the fastest runs: what an idle machine might show."""
    target: float | None = None
    """At most this."""

    @property
    def met(self) -> bool | None:
        """Whether the target is; None without one."""
        return None if self.target is None else round(self.ratio, 2) <= self.target

    @property
    def line(self) -> str:
        """A row of the table."""
        more = "".join(
            f"{'' if ratio is None else format(ratio, '.2f'):>7}" for ratio in (self.cpu_ratio, self.best_ratio)
        )
        verdict = "" if self.target is None else f"at most {self.target:g}: {'met' if self.met else 'MISSED'}"
        return f"{self.ratio:>7.2f}{more}  {self.what} / {self.against}{verdict and f'  ({verdict})'}"


def main() -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement (default %(default)s)")
    parser.add_argument("--lab", action="store_true", help="also tests/lab/run --bench: a real kernel, other tools")
    options = parser.parse_args()
    timing.adopt_orphans()
    machine = timing.machine()
    figures: list[Figure] = []
    with lives.folder() as top:
        for measure in (nothing_to_do, one_device, a_note, a_handler, many_devices, large_host):
            figures += measure(top, options.rounds)
    lab = in_the_lab() if options.lab else []
    if options.json:
        shown = [{**figure._asdict(), "met": figure.met} for figure in figures]
        ways = [json.loads(line) for line in lab if line.startswith("{")]
        print(json.dumps({"machine": machine, "rounds": options.rounds, "figures": shown, "lab": ways}, indent=2))
        return 0
    print("{cpus} CPUs ({cpu}), Linux {kernel}, Python {python}, load {load}".format_map(machine))
    print(f"Ratios of medians of {options.rounds} rounds, taken turn about\n")
    print(f"{'time':>7}{'cpu':>7}{'best':>7}")
    for figure in figures:
        print(figure.line)
    if lab:
        print("\nIn the lab, on a real kernel:", *lab, sep="\n")
    return 0


def nothing_to_do(top: Path, rounds: int) -> list[Figure]:
    """Every operation of a guest without host devices, 8 kB of XML, on a host without configuration."""
    life = Life(top / "nothing", lives.cards(1), 0)
    xml = life.xml("start")

    def case(*command: str | Path) -> Case:
        return lambda: timed(command, xml, life.environment, SHORT)

    cases: dict[str, Case] = {name: case(life.launcher, *lives.arguments(name)) for name in lives.OPERATIONS}
    other = Life(top / "others", lives.cards(1), 0)
    other.with_settings()
    cases[OTHERS] = lambda: timed([life.launcher, *lives.arguments("prepare")], xml, other.environment, SHORT)
    cases[BARE] = case(*PYTHON)
    cases["/bin/true"] = case("/bin/true")
    cases["bash dispatcher"] = case(Path(__file__).with_name("dispatcher"), *lives.arguments("prepare"))
    took = medians(cases, rounds, progress)
    figures = [ratio(f"nothing to do at {name}", BARE, took, name, 0.5) for name in (*lives.OPERATIONS, OTHERS)]
    slowest = max(lives.OPERATIONS, key=lambda name: took[name].wall)
    figures += [
        ratio(f"nothing to do at {slowest}", other, took, slowest) for other in ("/bin/true", "bash dispatcher")
    ]
    return figures


def one_device(top: Path, rounds: int) -> list[Figure]:
    """Each event that acts, of a guest with one card whose driver takes 100 ms.

    Less what the driver took, and less the import of the simulation, which stands in the place of the kernel and is
    imported nowhere else. That is what it adds to all else that the event has imported by then: what both need is the
    event's own.
    """
    life = Life(top / "one", lives.cards(1), 1)
    cases: dict[str, Case] = {BARE: lambda: timed(PYTHON, life.xml("prepare"), runs=SHORT)}
    cases |= {operation: life.event(operation) for operation in lives.ACTING}
    for operation in WAITED:
        own = life.imports(operation)
        cases[f"{operation}: {HOOK}"] = importing(life, own)
        cases[f"{operation}: {SIMULATED}"] = importing(life, (*own, lives.SIMULATION))
    took = medians(cases, rounds, progress)
    figures = []
    for name in lives.ACTING:
        what, subtracted = f"{name} of one device, less its driver", {}
        if name in WAITED:
            added = less(took[f"{name}: {SIMULATED}"], took[f"{name}: {HOOK}"])
            what, subtracted = f"{what} and the simulation's import", {BARE: took[BARE], name: added}
            took = {**took, name: less(took[name], added)}
        figures.append(ratio(what, BARE, took, name, TARGETS[name]))
        if subtracted:
            figures.append(ratio(f"    the simulation's import, subtracted at {name}", BARE, subtracted, name))
    return figures


def a_note(top: Path, rounds: int) -> list[Figure]:
    """Prepare of a guest that has started before, beside its first: its card is compared with what it was there.

    Less what the driver took. The simulation's import is in both.
    """
    life = Life(top / "noted", lives.cards(1), 1)
    life.note()
    cases = {"noted": life.event("prepare", noted=True), "new": life.event("prepare")}
    took = medians(cases, rounds, progress)
    return [ratio("prepare with a note of an earlier start", "without", took, "noted", 1.2, "new")]


def a_handler(top: Path, rounds: int) -> list[Figure]:
    """What a handler by others adds to prepare, which reads settings in either case: the first of docs/own-handlers.md.

    The card's driver takes its time in either case.
    """
    document = (TOP / "docs" / "own-handlers.md").read_text()
    text = document.split("```python\n")[1].split("```")[0].replace('"begins", 22', '"begins", 24').replace("7)", "0)")
    life = Life(top / "handler", lives.cards(1), 1)
    wanted, other = "a handler wanted", "by another guest"
    cases = {BARE: lambda: timed(PYTHON, life.xml("prepare"), runs=SHORT)}
    cases |= {wanted: life.with_handler(text, wanted=True), other: life.with_handler(text, wanted=False)}
    took = medians(cases, rounds, progress)
    added = {BARE: took[BARE], wanted: less(took[wanted], took[other])}
    return [ratio("a handler by others more at prepare", BARE, added, wanted, 1.0)]


def importing(life: Life, modules: Sequence[str]) -> Case:
    """Time a Python, started as the launcher starts it, that imports these in their order, and no more."""
    bundle = f"import sys; sys.path.insert(0, {str(life.version)!r}); from libhook import bundle; bundle.use()"
    code = f"{bundle}; import {', '.join(modules)}"
    return lambda: timed([*PYTHON[:-1], code], life.xml("prepare"), runs=SHORT)


def less(sample: Sample, part: Sample) -> Sample:
    """What is left of one without the other."""
    return Sample(*(one - other for one, other in zip(sample, part, strict=True)))


def many_devices(top: Path, rounds: int) -> list[Figure]:
    """8 and 64 cards in as many groups, whose drivers take 100 ms each to let go, beside one."""
    guests = {str(count): Life(top / f"of{count}", lives.cards(count), count) for count in (1, *MANY)}
    figures = []
    for operation in ("prepare", "release"):
        cases = {count: life.event(operation, driver_counts=True) for count, life in guests.items()}
        took = medians(cases, rounds, progress)
        for count, targets in MANY.items():
            what = f"{operation} of {count} devices, 100 ms each"
            figures.append(ratio(what, "of one", took, str(count), targets.get(operation), "1"))
    return figures


def large_host(top: Path, rounds: int) -> list[Figure]:
    """The plan for one card, on a host with 16 functions and with 4,096."""
    few, many = Life(top / "16", lives.cards(16), 1), Life(top / "4096", lives.cards(4096), 1)
    took = medians({"16": few.dry_run(), "4096": many.dry_run()}, rounds, progress)
    opened = many.opens() / few.opens()
    return [
        ratio("plan on a host with 4,096 functions", "with 16", took, "4096", None, "16"),
        Figure("files opened for it on a host with 4,096 functions", "with 16", opened, None, None, 1),
    ]


def ratio(
    what: str, against: str, took: Mapping[str, Sample], name: str, target: float | None = None, base: str = ""
) -> Figure:
    """The ratio of ``name`` to ``base``, which is called ``against``."""
    own, other = took[name], took[base or against]
    wall, cpu, best = (round(one / another, 3) for one, another in zip(own, other, strict=True))
    return Figure(what, against, wall, cpu, best, target)


def in_the_lab() -> list[str]:
    """What the lab prints."""
    done = subprocess.run([TOP / "tests" / "lab" / "run", "--bench"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: the lab failed: {done.stderr.strip()}")
    return done.stdout.splitlines()


def progress(what: str) -> None:
    """Say on a terminal how far it is."""
    if sys.stderr.isatty():
        print(f"\r{what:<40}\r", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
