# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of ``libhook history``. Apart, since the command line is built for every command."""

import argparse

EPILOG = (
    "A time is 2026-11-24, 2026-11-24T13:30+01:00, or as for ausearch: 11/24/2026 13:30:00, 13:30:00, now, recent, "
    "this-hour, boot, today, yesterday, this-week, week-ago, this-month, this-year. Local, unless it says otherwise. "
    "Shown is whatever a guest had at some moment between the two."
)


def add(parser: argparse.ArgumentParser) -> None:
    """Which part of which trail, and how it is shown."""
    parser.epilog = EPILOG
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object a line, and nothing else, to stdout")
    shown.add_argument("--html", metavar="FILE", help="write one page, with a time line for each device")
    several = "; may be given again"
    parser.add_argument(
        "-if", "--input", metavar="FILE", action="append", default=[],
        help=f"a log, a folder with audit.log and what was rotated, or - for stdin (default: auditd's){several}",
    )  # fmt: skip
    parser.add_argument(
        "-d", "--device", metavar="ADDRESS", action="append", default=[], help=f"as recorded, or 01:00.0{several}"
    )
    parser.add_argument("-vm", "--vm", metavar="NAME", action="append", default=[], help=f"a guest's name{several}")
    parser.add_argument("-uu", "--uuid", metavar="UUID", action="append", default=[], help=f"a guest's UUID{several}")
    parser.add_argument("-n", "--node", metavar="NAME", action="append", default=[], help=f"a host's name{several}")
    parser.add_argument("-ts", "--start", metavar="TIME", nargs="+", help="not what was over by then")
    parser.add_argument("-te", "--end", metavar="TIME", nargs="+", help="not what began later")
    results = ("success", "failed")
    parser.add_argument("--result", metavar="RESULT", choices=results, help="only success, or only failed")
