# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ``libhook`` command in this process, on a simulated host."""

import contextlib
import io
import re
from typing import NamedTuple
from unittest import mock

from scenario import Host

from libhook import cli

_NAME = re.compile(r"(?<=[0-7]) \((?:[^()\n]* )?\[[0-9a-f]{4}:[0-9a-f]{4}\]\)")


class Done(NamedTuple):
    """How it ended."""

    code: int
    out: str
    err: str


def libhook(
    host: Host, *arguments: str, stdin: bytes = b"", columns: int = 80, encoding: str = "utf-8", names: bool = False
) -> Done:
    """Run it, with this on stdin, in a terminal of so many columns and this encoding.

    Without ``names`` those of devices are left out of stdout, as far as they stand in parentheses behind an address. So
    a plan can be compared with what the hook says.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in ("out", "err"))
    environment = {"LIBHOOK_ROOT": host.root, "COLUMNS": str(columns), "PATH": "/usr/bin:/bin"}
    with (
        mock.patch.dict("os.environ", environment, clear=True),
        mock.patch("sys.argv", ["libhook", *arguments]),
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    host.settle()
    assert isinstance(code, int)
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read())
    out_, err_ = texts
    return Done(code, out_ if names else without_names(out_), err_)


def without_names(text: str) -> str:
    """The text without the names that stand behind addresses: `` (Intel … [8086:10d3])``."""
    return _NAME.sub("", text)
