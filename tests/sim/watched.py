# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hook's process as hooks/qemu starts it, but watched: how often it forks, and which files it opens.

Run as ``python3 -I -S watched.py TOP REPORT LOCK PID NAME OPERATION SUBOPERATION EXTRA``; the report is a literal of
Python, so that nothing is imported for it.
"""

import os
import sys


def watch(report: str) -> None:
    """Count from now on, in this process and not in its children, until it leaves by _exit."""
    me, forks, touched, leave = os.getpid(), [0], [""], os._exit

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if os.getpid() != me:
            return
        if event == "os.fork":
            forks[0] += 1
        elif event in ("open", "os.listdir", "os.scandir"):
            touched.append(str(arguments[0]))

    def write_and_leave(code: int) -> None:
        if os.getpid() == me:
            found = {"forks": forks[0], "touched": touched[1:]}
            with open(report, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(repr(found))
        leave(code)

    sys.addaudithook(note)
    os._exit = write_and_leave  # type: ignore[assignment]


if __name__ == "__main__":
    sys.path.insert(0, sys.argv.pop(1))
    watch(sys.argv.pop(1))
    from libhook.cli import launched

    launched()
