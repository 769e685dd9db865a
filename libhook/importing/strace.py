# SPDX-License-Identifier: LGPL-2.1-or-later
"""How strace writes its lines, the texts in them, and paths. Pure.

A script may write into the trace itself. So each of these takes time by the length of its text, whatever is in it.
"""

import re
from collections.abc import Iterator

_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)("|\\?$)')
"""The end of the line ends a text, too: else each quote in a text without an end would be tried to the end."""
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-f]{2}|.)")
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f", "a": "\a", "e": "\x1b"}
_OWN = ("/.trace/", "/.state/", "/.libhook/", "/proc/self/", "pipe:", "socket:", "/dev/fd/", "/tmp/sh-thd")  # noqa: S108
"""What is no file of the host. The last is where bash keeps here-documents: only compared."""
_OWN_DEVICES = frozenset(f"/dev/{name}" for name in ("tty", "null", "zero", "full", "stdin", "stdout", "stderr", "fd"))
_LONGEST_LINE = 1 << 16


def texts(arguments: str) -> list[str]:
    """The texts among a call's arguments, as the process had them."""
    return [_plain(text) for text, end in _TEXT.findall(arguments) if end == '"']


def lines(text: str) -> Iterator[str]:
    """The lines of a trace, but for those that strace would not write: they are too long."""
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        if end - begin <= _LONGEST_LINE:
            yield text[begin:end]
        begin = end + 1


def _plain(text: str) -> str:
    if "\\" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return chr(int(code[1:], 16)) if code[0] == "x" and len(code) == 3 else _SHORT.get(code, code)

    plain = _ESCAPE.sub(one, text)
    return plain.encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def whole(arguments: str, path: str) -> str:
    """A path with the folder that it is relative to; "" where that is not said."""
    if path.startswith("/"):
        return path
    folder = arguments.partition("<")[2].partition(">")[0]
    return f"{folder.rstrip('/')}/{path}" if folder else ""


def in_path(path: str) -> str:
    """A path with the one folder of programs that there is in the sandbox."""
    folder, _, name = path.rpartition("/")
    return f"/usr/bin/{name}" if folder in ("/bin", "/sbin", "/usr/sbin") else path


def is_own(path: str) -> bool:
    """Whether it is no file of the host."""
    return path.startswith(_OWN) or path in _OWN_DEVICES
