# SPDX-License-Identifier: LGPL-2.1-or-later
"""The options of ``libhook import``. They are apart from the rest, because every command builds the command line."""

import argparse

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def _name(text: str) -> str:
    if not text or not set(text) <= _LETTERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a name of letters, digits, _ and -")
    return text


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = (
        "The scripts run in a sandbox, on a host that is made up: nothing of this host is touched. No guest's XML is"
        " read but one that you give. Needs bubblewrap, strace and bash."
    )
    parser.add_argument("path", metavar="PATH", nargs="+", help="a hook script, or a folder of them")
    parser.add_argument(
        "--guest", metavar="NAME", action="append", default=[],
        help="a guest that the scripts do not name, or the file NAME.xml with its XML; may be given again",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="write it to /etc/libhook/config.d, without a question")
    parser.add_argument(
        "--name", metavar="NAME", type=_name, default="imported", help="the drop-in's name (default: imported)"
    )
