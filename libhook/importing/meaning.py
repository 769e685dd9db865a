# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the recorded programs and writes mean: the effects of one call. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping

from libhook.importing.asking import FILE_TOOLS
from libhook.importing.done import Done
from libhook.importing.effect import Effect
from libhook.importing.programs import of_program
from libhook.importing.writes import is_ones_own, of_file

_LONGEST = 2000
_TOOLS = FILE_TOOLS | {"sed"}


def of(done: tuple[Done, ...], operation: str, again: Mapping[str, str]) -> Iterator[Effect]:
    """Return the effects of one call, in their order. What only asks has none.

    ``again`` are the files that scripts only keep notes in, in the whole of the guest's life, and why they need not.
    """
    files = {one.pid: one for one in done if one.what == "start" and _name(one) in _TOOLS}
    changed = {one.pid for one in done if one.what in ("open", "make", "remove", "fail", "write") and one.by in _TOOLS}
    written = [one for one in done if one.what == "write"]
    often = Counter(one.path for one in written)
    single = {one.path: one.data.rstrip("\n") for one in written if often[one.path] == 1 and len(one.data) < _LONGEST}
    bad = set[int]()
    for one in done:
        if one.what == "start" and one.foreign in one.argv[:3] and one.foreign:
            yield Effect("foreign", one.foreign, "", one, operation)
        elif one.what == "absent" and one.data == "given":
            yield Effect("foreign", one.argv[0], "", one, operation)
        elif one.what == "start":
            effects = list(of_program(one, operation))
            yield from effects
            bad.discard(one.pid)
            if any(effect.kind == "danger" for effect in effects):
                bad.add(one.pid)
            elif one.pid not in changed and files.get(one.pid) is one and (path := _target(one)):
                yield from of_file(one._replace(what="make", path=path), operation, one, again)
        elif one.pid in bad:  # what it does to files is told already
            continue
        elif one.what == "open" and one.pid not in files and (text := single.get(one.path)) and is_ones_own(one, again):
            yield Effect("written", one.path, text, one, operation)
        elif one.what in ("write", "fail", "open", "make", "remove"):
            yield from of_file(one, operation, files.get(one.pid), again)
        elif one.what == "absent":
            why = f"{' '.join(one.argv)} was not given, so nobody knows what it does"
            yield Effect("left", one.argv[0], why, one, operation)
        elif one.what == "kill":
            yield Effect("danger", "kill", "it kills a process that it finds by a name or a file: libhook ends who has"
                         " a device open, with end", one, operation)  # fmt: skip
        elif one.what == "connect" and one.by in ("", one.place.file.rpartition("/")[2]):
            yield Effect("left", "connection", "it talks to another program over a socket", one, operation)


def _target(one: Done) -> str:
    """The file that a tool would have changed, had it found here what it works on."""
    words = [word for word in one.argv[1:] if not word.startswith("-")]
    if _name(one) == "sed" and not any(word.startswith(("-i", "--in-place")) for word in one.argv[1:]):
        return ""
    if _name(one) in ("chmod", "chown", "chgrp", "setfacl"):
        return ""
    return next((word for word in reversed(words) if word.startswith("/")), "")


def _name(one: Done) -> str:
    return one.argv[0].rpartition("/")[2] if one.argv else ""
