# SPDX-License-Identifier: LGPL-2.1-or-later
"""libhook's errors, written so that the reader can act, and the functions that make foreign text safe to show.

This module imports nothing from libhook, so that every module may import it.
"""

import errno

TO_PASTE = "run:"
"""What stands before a command in a remedy, and nowhere else."""
_OF_A_WORD = dict.fromkeys(map(ord, "._-:/@+"), "a")
"""What else a plain word has beside letters and digits: ``web``, ``tim@corp``, ``0000:01:00.0``, ``/etc/x``."""
_ESCAPE = "\\x"
"""So begins what systemd writes for other characters: ``my@win\\x2d11.service``, which is a plain word, too."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
"""The errnos that mean that some resource is used up."""


def printable(text: str) -> str:
    """``text`` on one line. Every character that a terminal or a log would obey is escaped.

    Others choose the names of guests, processes, mount points and volumes. Such a name may hold line feeds, escape
    sequences or lone surrogates. The backslash itself is not escaped, so that ordinary text stays unchanged.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def harmless(text: str) -> str:
    """A text that others wrote, such as libvirt's reason, or a whole sentence. It cannot begin a command to paste."""
    return text.replace(TO_PASTE, TO_PASTE.replace(":", "\\x3a"))


def named(name: str) -> str:
    """A name that others chose, such as a guest's or a process's, for a sentence: in quotes, unless it is a plain word.

    So it cannot be read as part of the sentence. packaging/versions.py has the same rule.
    """
    letters = name.replace(_ESCAPE, "x").translate(_OF_A_WORD)
    if name[-1:] not in ("", ":") and name.isascii() and letters.isalnum() and TO_PASTE not in name:
        return name
    return in_quotes(name)


def in_quotes(text: str) -> str:
    """A text that others chose, such as a value, for a sentence. It ends with its quotes, and begins no command."""
    return '"' + harmless(text).replace('"', "\\x22") + '"'


def fault(error: BaseException) -> str:
    """What Python says of an error, for a sentence. The text may hold any name."""
    return f"{type(error).__name__}: {named(str(error))}" if str(error) else type(error).__name__


def pasted(path: str) -> str:
    """A path for a command in a remedy, quoted for a shell where that is necessary.

    The reader pastes the command, and it must do no more than it says. A guest's name is in one only where it is plain
    (facts/remedy.py).
    """
    if all(c.isalnum() or c in "/._-+:@" for c in path):
        return path
    return "'" + path.replace("'", "'\\''") + "'"


class LibhookError(Exception):
    """A failure, shown to the user as one line.

    ``message`` says what is wrong and where. ``hint`` says what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep both texts. Either may hold foreign text: ``line`` makes it printable."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def line(self) -> str:
        """The one line for stderr: the reason, then the remedy. Printable."""
        return printable(f"{self.message}: {self.hint}" if self.hint else self.message)


class BadInput(LibhookError):
    """Something that libhook was given is wrong: XML, arguments, the configuration or a state file."""


class TooNew(BadInput):
    """A later version wrote this file. Only that version may act on it, because only that one understands all of it."""


class Refused(LibhookError):
    """The guest may not have a device, or the operation must not go on."""


LIMITS = "raise libvirtd's limits (open files, processes, memory), or try again when less runs"
BUSY = " does not answer: its driver is still busy with an earlier request"
"""Behind a device's address: a write to it has not returned, and may never do."""
WHEN_IT_ANSWERS = "if its driver never answers, reboot the host; when it does, run: libhook recover"
MORE_TIME = "start the guest again, or allow more time with write_deadline in the settings"
DISK_ANSWERS = "its disk or server may not answer: try ls there"
STOP_GUEST = "stop that guest first (libhook status shows what it holds); if it has ended already, run: libhook recover"
KERNEL_LOG = "see what the kernel says: journalctl -k -b -e, or dmesg"


def kernel_log(address: object) -> str:
    """The remedy that shows what the kernel says of a card, at the PCI address of any of its functions.

    A card's functions have one remedy, so that what befalls all of them is said once.
    """
    return f"see what the kernel says of it: journalctl -k -b -g {str(address).rpartition('.')[0]}, or dmesg"


def remedy_of(error: OSError) -> str:
    """The remedy for an error from the system."""
    return LIMITS if error.errno in EXHAUSTED else KERNEL_LOG


def unanswered(error: OSError) -> LibhookError:
    """The error for a system call that failed where nobody could foresee it."""
    where = f"{named(str(error.filename))}: " if error.filename else ""
    return LibhookError(f"{where}{error.strerror or error}", remedy_of(error))


class DeadlineExpired(LibhookError):
    """Something did not end in time, such as a wait for a lock, a device or libvirtd."""
