# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of ``libhook history``. They are apart from the rest, because every command builds the command line."""

import argparse
import re

EPILOG = (
    "A time is 2026-11-24, 2026-11-24T13:30+01:00, or as for ausearch: 11/24/2026 13:30:00, 13:30:00, now, recent, "
    "this-hour, boot, today, yesterday, this-week, week-ago, this-month, this-year. Local, unless it says otherwise. "
    "Shown is what a guest had at any moment between the two."
)
_PCI = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])", re.I | re.ASCII)
_USB = re.compile(r"\d{3,}\.\d{3,}|USB redirdev", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.I | re.ASCII)
_WWPN = re.compile(r"naa\.(?:0x)?[0-9a-f]{16}", re.I | re.ASCII)
_NAME = re.compile(r"[^\s:]+(?::\d+){3}|(?:iqn|eui)\..+|naa\.(?:[0-9a-f]{16}){1,2}(?:/\d+)?|/.+", re.I | re.ASCII)
"""Names of SCSI devices and their adapters, of iSCSI, and files that are given to a container."""
_IDS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}", re.I | re.ASCII)
_ANY = re.compile(r".+", re.S)
_FORMS = {"pci": _PCI, "usb": _USB, "mdev": _UUID, "scsi_host": _WWPN, "": _NAME}


def device(text: str) -> str:
    """Parse a device as it is recorded, with or without its bus before it, or the ids of one.

    A PCI address may lack its domain.
    """
    if _IDS.fullmatch(text):
        return text.lower()
    bus, blank, address = text.partition(" ")
    if not blank or _USB.fullmatch(text):
        bus, address = "", text
    forms = (_FORMS.get(bus, _ANY),) if bus else _FORMS.values()
    if not any(form.fullmatch(address) for form in forms):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a device: write it as in the record, like 0000:01:00.0, 01:00.0 or 001.004, "
            "with its bus before it: 'scsi NAME', or as vendor and product: 10de:2684"
        )
    if bus in ("", "pci") and (found := _PCI.fullmatch(address)):
        address = f"{found[1] or '0000'}:{found[2]}".lower()
    return f"{bus} {address}" if bus else address


def uuid(text: str) -> str:
    """Parse a guest's UUID. Return it in lower case with hyphens."""
    if not _UUID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a UUID: write its 32 hex digits, as virsh domuuid does")
    digits = text.replace("-", "").lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options: which part of which trail to show, and how."""
    parser.epilog = EPILOG
    parser.set_defaults(usage_error=parser.error)  # for what only shows once the options are seen together
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="print one JSON object a line, and nothing else, to stdout")
    shown.add_argument("--html", metavar="FILE", help="write one page, with a time line for each device")
    parser.add_argument(
        "--follow", action="store_true", help="print entries as they begin, end, fail or change, until Ctrl-C"
    )
    parser.add_argument(
        "--cursor", metavar="FILE", help="with --follow: go on where this file says, and keep in it how far it got"
    )
    several = "; may be given again"
    parser.add_argument(
        "-if", "--input", metavar="FILE", action="append", default=[],
        help=f"a log, a folder with audit.log and what was rotated, or - for stdin (default: auditd's){several}",
    )  # fmt: skip
    parser.add_argument(
        "-d",
        "--device",
        metavar="DEVICE",
        type=device,
        action="append",
        default=[],
        help=f"as recorded, 01:00.0, or vendor and product as 10de:2684, where records say them{several}",
    )
    parser.add_argument("-vm", "--vm", metavar="NAME", action="append", default=[], help=f"a guest's name{several}")
    parser.add_argument(
        "-uu", "--uuid", metavar="UUID", type=uuid, action="append", default=[], help=f"a guest's UUID{several}"
    )
    parser.add_argument("-n", "--node", metavar="NAME", action="append", default=[], help=f"a host's name{several}")
    parser.add_argument("-ts", "--start", metavar="TIME", nargs="+", help="leave out what had ended by then")
    parser.add_argument("-te", "--end", metavar="TIME", nargs="+", help="leave out what began later")
    results = ("success", "failed")
    parser.add_argument("--result", metavar="RESULT", choices=results, help="only success, or only failed")


def clash(options: argparse.Namespace) -> str:
    """Return which options do not go together, or ""."""
    if not options.follow:
        return "argument --cursor: it needs --follow" if options.cursor is not None else ""
    if options.html is not None:
        return "argument --html: not allowed with argument --follow: a page has an end"
    if options.end is not None:
        return "argument -te/--end: not allowed with argument --follow, which has no end"
    if len(options.input) > 1 or "-" in options.input:
        return "argument -if/--input: with --follow, one log, or one folder with audit.log"
    return ""
