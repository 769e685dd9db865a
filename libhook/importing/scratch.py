# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files in which scripts note something for later. Pure."""

from collections.abc import Iterable

from libhook.importing.done import Done

READ = "what it notes for later: libhook notes by itself what it changes"
_UNREAD = "a note that none of the scripts reads"
_FOLDERS = ("/tmp/", "/var/tmp/")  # noqa: S108 - only compared
_RUN = ("/run/", "/var/run/")
_WRITERS = ("tee", "rm", "echo", "printf", "cat")


def unread(done: Iterable[Done]) -> dict[str, str]:
    """The files that are only written, with a text, and that no other program is given. What is in a folder below /run
    has its reader: systemd, udev.
    """
    written, given = set[str](), set[str]()
    for one in done:
        if one.what == "write":
            written.add(one.path)
        elif one.what == "start" and one.argv[0].rpartition("/")[2] not in _WRITERS:
            given.update(word for word in one.argv[1:] if word[:1] == "/")
    return dict.fromkeys((path for path in written - given if _is_scratch(path)), _UNREAD)


def _is_scratch(path: str) -> bool:
    folder = path.rpartition("/")[0] + "/"
    return folder in _RUN or path.startswith(_FOLDERS)
