# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ``libhook`` command in this process, on a simulated host."""

import contextlib
import io
from typing import NamedTuple
from unittest import mock

from scenario import Host, reap

from libhook import cli


class Done(NamedTuple):
    """How it ended."""

    code: int
    out: str
    err: str


def libhook(host: Host, *arguments: str, stdin: bytes = b"", columns: int = 80, encoding: str = "utf-8") -> Done:
    """Run it, with this on stdin, in a terminal of so many columns and this encoding."""
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
    reap(host.patience)
    assert isinstance(code, int)
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read())
    return Done(code, *texts)
