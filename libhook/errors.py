# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can go wrong, said so that the reader can act; and the one place where foreign text is made printable.

No imports from libhook: everything may import this.
"""

import errno

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""What the system answers where something is used up."""


def printable(text: str) -> str:
    """``text`` on one line, with whatever a terminal or a log would obey made visible.

    Guest names, process names, mount points and volumes are chosen by others: they may hold line feeds, escape
    sequences or lone surrogates. Backslash itself stays, so that ordinary text is unchanged.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def pasted(path: str) -> str:
    """A path within a command that a remedy names: what is pasted into a shell must not do more than it says.

    A guest's name stands in no such command, its UUID does.
    """
    if all(c.isalnum() or c in "/._-+" for c in path):
        return path
    return "'" + path.replace("'", "'\\''") + "'"


class LibhookError(Exception):
    """A failure with a reason and a remedy, shown to the user as one line.

    ``message`` says what is wrong and where, ``hint`` what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep both parts; either may hold foreign text, ``line`` makes it printable."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def line(self) -> str:
        """The one line for stderr: reason, then remedy."""
        return printable(f"{self.message}: {self.hint}" if self.hint else self.message)


class BadInput(LibhookError):
    """What was handed to us is not what it should be: XML, arguments, configuration, a state file."""


class TooNew(BadInput):
    """A later version wrote it: only that one may act on it, since nobody else knows all that it says."""


class Refused(LibhookError):
    """The guest may not have a device, or the operation must not go on."""


def remedy_of(error: OSError) -> str:
    """What helps against an answer of the system's."""
    return "see the limits of libvirtd's service" if error.errno in EXHAUSTED else "see the kernel's log"


def unanswered(error: OSError) -> LibhookError:
    """What the system refused to say or do, where nobody could foresee it."""
    where = f"{error.filename}: " if error.filename else ""
    return LibhookError(f"{where}{error.strerror or error}", remedy_of(error))


class DeadlineExpired(LibhookError):
    """Something did not end in time: a lock, a holder, a kernel write."""
