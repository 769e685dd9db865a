# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which lines of libhook have run, in all the processes of a test run: counted where LIBHOOK_LINES names a file.

Most of libhook's work is done by processes that end by os._exit, and some of the tests kill them; whoever gathers
lines until the process ends never hears of theirs. So all share one file in memory, with a byte for each line, which
is set when the line runs for the first time in a process. That costs nothing afterwards (PEP 669).

As a program: ``python3 tests/lines.py FILE`` prints what did not run, and fails where that is too much.
"""

import mmap
import os
import sys
from math import floor
from pathlib import Path
from types import CodeType

_TOP = Path(__file__).parents[1]
_PACKAGE = f"{_TOP}/libhook/"
_ROOM = 1024
"""Lines that a file may have; a test holds them to a third of that."""
_LEAST = {
    "libhook/*": 95.0,
    "libhook/children/*": 100.0,
    "libhook/effects/*": 100.0,
    "libhook/look/*": 100.0,
    "libhook/kinds/*": 100.0,
    "libhook/story/*": 100.0,
    "libhook/run.py": 100.0,
}
"""Per cent of the lines that must have run. Not less than there was: raise it with every test that reaches more."""


def _files() -> list[str]:
    return sorted(str(path) for path in Path(_PACKAGE).rglob("*.py"))


def count(path: str) -> None:
    """From now on in this process and in those that it forks."""
    places = {name: number * _ROOM for number, name in enumerate(_files())}
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.ftruncate(descriptor, len(places) * _ROOM)
    shared = mmap.mmap(descriptor, 0, trackfd=False)  # type: ignore[call-arg] # new in 3.13, as tests run on
    os.close(descriptor)
    monitoring = vars(sys)["monitoring"]  # new in 3.12
    tool, events = monitoring.COVERAGE_ID, monitoring.events

    def entered(code: CodeType, _offset: int) -> object:
        if code.co_filename in places:
            monitoring.set_local_events(tool, code, events.LINE)
        return monitoring.DISABLE

    def ran(code: CodeType, line: int) -> object:
        shared[places[code.co_filename] + line] = 1
        return monitoring.DISABLE

    monitoring.use_tool_id(tool, "lines")
    monitoring.register_callback(tool, events.PY_START, entered)
    monitoring.register_callback(tool, events.LINE, ran)
    monitoring.set_events(tool, events.PY_START)


def report(path: str) -> bool:
    """Print what did not run, and the figures; whether they are good enough."""
    from coverage import Coverage

    content = Path(path).read_bytes()
    coverage = Coverage(data_file=f"{path}.coverage", config_file=f"{_TOP}/setup.cfg")
    ran = {}
    for number, name in enumerate(_files()):
        lines = content[number * _ROOM : (number + 1) * _ROOM]
        ran[name] = [line for line, byte in enumerate(lines) if byte]
    coverage.get_data().add_lines(ran)
    good = True
    for what, least in _LEAST.items():
        per_cent = coverage.report(include=f"{_TOP}/{what}", skip_covered=True, show_missing=True)
        good = good and per_cent >= least
        print(f"coverage: {what} {floor(per_cent * 100) / 100:.2f} % of its lines, at least {least:.0f} %")
    return good


if __name__ == "__main__":
    sys.exit(0 if report(sys.argv[1]) else 1)
if os.environ.get("LIBHOOK_LINES"):
    count(os.environ["LIBHOOK_LINES"])
