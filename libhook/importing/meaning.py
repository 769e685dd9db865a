# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the recorded programs and writes mean: the effects of one call. Pure."""

from collections.abc import Iterator

from libhook.importing.asking import FILE_TOOLS
from libhook.importing.effect import Effect
from libhook.importing.programs import of_program
from libhook.importing.trace import Done
from libhook.importing.writes import of_file


def of(done: tuple[Done, ...], operation: str) -> Iterator[Effect]:
    """Return the effects of one call, in their order. What only asks has none."""
    files = {one.pid: one for one in done if one.what == "start" and _name(one) in FILE_TOOLS | {"sed", "dd"}}
    for one in done:
        if one.what == "start":
            yield from of_program(one, operation)
        elif one.what in ("write", "fail", "open", "make", "remove"):
            yield from of_file(one, operation, files.get(one.pid))
        elif one.what == "kill":
            yield Effect("danger", "kill", "it kills a process that it finds by a name or a file: libhook ends who has"
                         " a device open, with end", one, operation)  # fmt: skip
        elif one.what == "connect" and "/var/run" not in one.data and "nscd" not in one.data and one.by == "":
            yield Effect("left", "connection", "it talks to another program over a socket", one, operation)


def _name(one: Done) -> str:
    return one.argv[0].rpartition("/")[2] if one.argv else ""
