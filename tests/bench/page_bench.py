# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of libhook history, of a busy host's log: its size, and how long it takes to make and to open in Chromium.

To make it is measured beside --json of the same log. To open is until the load event, which is after our script; the
first paint comes earlier.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import busy_host

sys.path.append(str(Path(__file__).parents[1] / "browser"))
from chromium import Browser

ROOT = Path(__file__).resolve().parents[2]
LIBHOOK = ["/usr/bin/python3", "-m", "libhook", "history"]
TARGETS = {20_000: (5.0, 2.0), 100_000: (25.0, 6.0)}
"""By entries: at most so many megabytes, and so many seconds to open, on a machine with 2 CPUs."""


class Figure(NamedTuple):
    """One page."""

    entries: int
    megabytes: float
    make: float
    """Seconds; ``json`` is of --json."""
    json: float
    paint: float
    """Seconds until something is seen; ``open`` is until all is there and works."""
    open: float

    @property
    def met(self) -> bool:
        """Whether it is small and fast enough."""
        megabytes, seconds = TARGETS.get(self.entries, (float("inf"), float("inf")))
        return self.megabytes <= megabytes and self.open <= seconds

    @property
    def line(self) -> str:
        """A row of the table."""
        return (
            f"{self.entries:>8,}{self.megabytes:>8.1f}{self.make:>8.2f}{self.json:>8.2f}{self.make / self.json:>7.1f}"
            f"{self.paint:>8.2f}{self.open:>8.2f}   {'met' if self.met else 'MISSED'}"
        )


def _seconds(*command: str) -> float:
    start = time.monotonic()
    with open(os.devnull, "wb") as nowhere:
        subprocess.run(command, cwd=ROOT, check=True, stdout=nowhere, stderr=nowhere)
    return time.monotonic() - start


def measure(browser: Browser, entries: int, rounds: int) -> Figure:
    """Make and open the page some times, in turn with --json; medians."""
    with tempfile.TemporaryDirectory() as folder:
        log, page = Path(folder, "audit.log"), Path(folder, "page.html")
        log.write_bytes(busy_host.log(entries))
        runs = list(_round(browser, log, page, rounds))
        size = page.stat().st_size / 1e6
    return Figure(entries, size, *(statistics.median(each) for each in zip(*runs, strict=True)))


def _round(browser: Browser, log: Path, page: Path, rounds: int) -> Iterator[tuple[float, ...]]:
    for _ in range(rounds):
        make = _seconds(*LIBHOOK, "-if", str(log), "--html", str(page))
        as_json = _seconds(*LIBHOOK, "-if", str(log), "--json")
        browser.call("Page.navigate", url="about:blank")
        browser.open(page, 1400, "light")
        browser.wait("performance.getEntriesByName('first-contentful-paint').length")
        opened = browser.value("performance.getEntriesByType('navigation')[0].loadEventEnd")
        paint = browser.value("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        yield make, as_json, paint / 1000, opened / 1000


def main() -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="tests/bench/page", description=__doc__, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default %(default)s)")
    options = parser.parse_args()
    with Browser() as browser:
        figures = [measure(browser, entries, options.rounds) for entries in TARGETS]
    if options.json:
        shown = [{**figure._asdict(), "met": figure.met} for figure in figures]
        print(json.dumps({"load": os.getloadavg()[0], "figures": shown}, indent=2))
        return 0
    print(f"medians of {options.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'entries':>8}{'MB':>8}{'make s':>8}{'json s':>8}{'ratio':>7}{'paint s':>8}{'open s':>8}")
    for figure in figures:
        print(figure.line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
