# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where scripts give up: lines whose failure ends them, and functions that end them. Pure."""

import re
from collections.abc import Iterator, Sequence

from libhook.importing.done import Place
from libhook.importing.sources import Sources

_EXIT = r"(?<![\w$-])(?:exit|return)\s+\"?(?:[1-9]|\$)"
_SET_E = re.compile(r"^\s*set\s+-\w*e|^\s*set\s+-o\s+errexit|^#!.*\s-\w*e", re.M)
_FUNCTION = re.compile(r"^\s*(?:function\s+([\w-]+)|([\w-]+)\s*\(\))[\s(){]*")
_USUAL = re.compile(r"(?:die|error|fail|err|abort|fatal)\w*")
"""How functions are called that end a script, where none is given with that name."""
_OR = re.compile(r"\|\|(.*)")
_IF = re.compile(r"^\s*(?:if|elif)\s")
_UNLESS = re.compile(r"^\s*(?:if|elif)\s+!\s")
_FAILED = re.compile(r"\$\?\"?\s*(?:-ne|-gt|!=|>)\s*\"?0|\(\(\s*\$\?\s*\)\)|\$\?\"?\s*(?:-eq|==?)\s*\"?0.*\|\|")
_OF_IF = ("fi", "else", "elif")
_PARTS = re.compile(r"[;&|]|\bthen\b|\{")
_MOST_LINES = 15


class GivingUp:
    """What the scripts say of it."""

    def __init__(self, sources: Sources) -> None:
        files = [file for file in sources.files if file.place and file.is_shell]
        defined = dict[str, bool]()
        for file in files:
            for name, body in _functions(file.lines):
                defined[name] = bool(re.search(_EXIT.replace("|return", ""), body)) or defined.get(name, False)
        self._defined = defined
        self._always = {file.place for file in files if _SET_E.search(file.scanned)}
        self._lines = {Place(file.place, number): [Place(file.place, end) for end in ends]
                       for file in files for number, ends in self._of_lines(file.lines)}  # fmt: skip

        self._checks = {Place(file.place, number): [Place(file.place, end) for end in ends]
                        for file in files for number, ends in self._of_checks(file.lines)}  # fmt: skip

    @property
    def functions(self) -> frozenset[str]:
        """The names of the scripts' functions."""
        return frozenset(self._defined)

    def is_strict(self, place: Place) -> bool:
        """Whether a failure in this line ends the script."""
        return place.file in self._always or place in self._lines

    def ends(self, told: frozenset[Place], settled: frozenset[Place]) -> frozenset[Place]:
        """The lines that only give up where one of these has failed, or is as it must not be."""
        return frozenset((*(end for place in told for end in self._lines.get(place, ())),
                          *(end for place in settled for end in self._checks.get(place, ()))))  # fmt: skip

    def is_end(self, command: str) -> bool:
        """Whether this simple command gives up."""
        name = command.split(" ", 1)[0]
        return bool(re.match(_EXIT, command)) or self._defined.get(name, bool(_USUAL.fullmatch(name)))

    def _of_lines(self, lines: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        before = 0
        for number, line in enumerate(lines, 1):
            if (found := _OR.search(line)) and (ends := self._ends(_block(found[1], lines[number:], ("}", ")")))):
                yield number, [number + at for at in ends]
            if _UNLESS.match(line) and (ends := self._ends(_block(f"{{{line}", lines[number:], _OF_IF))):
                yield number, [number + at for at in ends]
            if before and _FAILED.search(line) and (ends := self._ends(_block(f"{{{line}", lines[number:], _OF_IF))):
                yield before, [number + at for at in ends]
            before = number if line.strip() and not line.lstrip().startswith("#") else before

    def _of_checks(self, lines: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        for number, line in enumerate(lines, 1):
            if _IF.match(line) and (ends := self._ends(_block(f"{{{line}", lines[number:], _OF_IF))):
                yield number, [number + at for at in ends]

    def _ends(self, lines: Sequence[str]) -> list[int]:
        """Which of these lines give up."""
        return [at for at, line in enumerate(lines)
                if any(self.is_end(part.strip(" \t{}()!")) for part in _PARTS.split(line))]  # fmt: skip


def _block(text: str, after: Sequence[str], ends: tuple[str, ...]) -> list[str]:
    """What belongs to a line's end: the line below, if it goes on there, or all up to the block's end."""
    text = text.strip()
    if text in ("", "\\"):
        return ["", *after[:1]]
    if text[0] not in "{(" or "}" in text or re.search(r"\bfi\b", text):
        return [text]
    found = [text]
    for line in after[:_MOST_LINES]:
        if line.strip().startswith(ends):
            break
        found.append(line)
    return found


def _functions(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each function's name and body, which ends at a brace that begins a line."""
    for number, line in enumerate(lines):
        if found := _FUNCTION.match(line):
            body = [line[found.end() :]]
            if "}" not in body[0]:
                for inner in lines[number + 1 : number + 1 + 4 * _MOST_LINES]:
                    if inner.startswith("}"):
                        break
                    body.append(inner)
            yield found[1] or found[2], "\n".join(body)
