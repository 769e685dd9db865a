# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines that ran only in part: a list whose first command decides, a function on one line. Pure.

bash shows each simple command that it runs. What stands in a line and was never shown did not run.
"""

import re
from collections.abc import Iterable, Iterator

from libhook.importing.asking import ASKS, FILE_TOOLS, TEXT_TOOLS, only_asks
from libhook.importing.done import Place
from libhook.importing.sources import File, Sources

_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.""")
_INNER = re.compile(r"\$\(([^()]*)\)|`([^`]*)`")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_REDIRECTED = re.compile(r"\s[0-9]?(?:&>>?|>>?|<)\s*(?!&)\S+|[0-9]?>&[0-9-]?")
_TO_FILE = re.compile(r"(?<![0-9&>])>>?+\s*+(?!&|/dev/null|/dev/stderr|/dev/tty|/var/log/|\S*\.log\b)\S")
_BREAKS = re.compile(r"\|\|?|&&?(?![>0-9])|;;?|\(|\)|\{(?=\s)|\}(?=\s|$)")
_LEADING = re.compile(r"^(?:(?:if|then|else|elif|do|while|until|time|!)\s+|[A-Za-z_]\w*\+?=\S*\s+)+")
_REDUNDANT = re.compile(r"\$?\(\(.*?\)\)|\$\[.*?\]|\w+\+?=\([^()]*\)|\[\[.*?\]\]|(?:function\s+)?[\w.:-]+\s*\(\)")
"""Sums, lists, tests, and a function's head: nothing in them acts."""
_ANY = "..."
"""What stands for a text in quotes, and for what a command says."""
_ONE = r"[\w*?.$@{}/:+,=%~\[\]-]+"
_CASE = re.compile(rf"^(?:\s*case\s.*?\sin\b)?(?:\s*{_ONE}(?:\s*\|\s*{_ONE})*\)(?=\s))?")
_DEEPEST = 4
_LITERAL = re.compile(r"[\w./@:=+,%-]+")
_NO_EFFECT_WORDS = (
    "fi done esac in case for select { } return true false continue break shift local declare typeset readonly export"
    " unset read set shopt : test [ [[ wait trap umask cd pushd popd let getopts mapfile readarray command type hash"
    " function then do else pwd dirs jobs disown alias unalias ulimit sleep logger log info warn debug error_log"
)
_NO_EFFECT = frozenset(_NO_EFFECT_WORDS.split()) | ASKS | (TEXT_TOOLS - FILE_TOOLS)
_CALLS = frozenset(["eval", "source", ".", "exec", "bash", "sh", "exit", "builtin", "time"])
"""What only runs something else, of which there is a trace of its own."""
_MOST_SHOWN, _LONGEST = 64, 400


def lines(
    sources: Sources, ran: frozenset[Place], commands: Iterable[tuple[Place, str]]
) -> Iterator[tuple[File, int, str]]:
    """Each line that ran, and a command in it that did not."""
    shown = dict[Place, dict[frozenset[str], None]]()
    for place, command in commands:
        of_place = shown.setdefault(place, {})
        if len(of_place) <= _MOST_SHOWN:
            of_place[frozenset(command[:_LONGEST].replace("'", " ").replace("\\", "").split())] = None
    by_file = dict[str, set[int]]()
    for place in ran:
        by_file.setdefault(place.file, set()).add(place.line)
    for file in sources.files:
        own = by_file.get(file.place, set()) if file.place and file.is_shell else set[int]()
        for number, text, parts in _logical(file) if own else ():
            if not own & {*parts}:
                continue
            known = [some for part in parts for some in shown.get(Place(file.place, part), ())]
            if len(known) > _MOST_SHOWN:
                continue
            for words in _commands(text):
                literal = {word for word in words if _LITERAL.fullmatch(word) and _ANY not in word}
                if not any(literal <= one for one in known):
                    yield file, number, " ".join(words)


def unseen(
    sources: Sources, ran: frozenset[Place], told: frozenset[Place], names: frozenset[str]
) -> Iterator[tuple[File, int, str]]:
    """Each line that ran and of which nothing is told, though a command in it acts. ``names`` are of the scripts' own.

    So nothing is dropped without a word: a program that ended before it did anything, as for want of an argument.
    """
    places = {place.file: set[int]() for place in ran}
    for place in ran:
        places[place.file].add(place.line)
    for file in sources.files:
        own = places.get(file.place, set()) if file.place and file.is_shell else set[int]()
        for number, text, parts in _logical(file) if own else ():
            if own & {*parts} and not any(Place(file.place, part) in told for part in parts):
                known = (words for words in _commands(text) if words[0].rpartition("/")[2] not in names | _CALLS)
                yield from ((file, number, " ".join(words)) for words in known)


def _logical(file: File) -> Iterator[tuple[int, str, list[int]]]:
    """Each line with those that go on with it: its number, its text, and all their numbers. No here-documents."""
    begin, text, parts, heredoc = 0, "", list[int](), ""
    for number, line in enumerate(file.lines, 1):
        if heredoc:
            heredoc = "" if line.strip() == heredoc else heredoc
            continue
        if found := re.search(r"<<-?\s*[\"']?(\w+)", line):
            heredoc = found[1]
        begin, parts = begin or number, [*parts, number]
        text += line.removesuffix("\\") + " "
        if not line.rstrip().endswith(("\\", "&&", "||", "|")) or len(parts) > 20:
            yield begin, text, parts
            begin, text, parts = 0, "", []


def can_act(line: str) -> bool:
    """Whether a line may do something. What only says or decides something cannot, and neither can what ends well."""
    return any(_acts(words, to_file) or words[0][:1] in ("$", ".", "`") for words, to_file in _simple(line))


def _commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a line that do something."""
    return (words for words, to_file in _simple(text) if _acts(words, to_file))


def _simple(text: str) -> Iterator[tuple[list[str], bool]]:
    """The simple commands of a line, each as its words, and whether it writes to a file. What is quoted is one word
    that fits any."""
    rest, inner = _REDUNDANT.sub(" ", text), list[str]()
    for _ in range(_DEEPEST):  # the innermost first
        inner += [one or other for one, other in _INNER.findall(rest)]
        rest = _INNER.sub(_ANY, rest)
    rest = ";;".join(_CASE.sub(" ", f"{part} ") for part in _COMMENT.sub("", _QUOTED.sub(_ANY, rest)).split(";;"))
    for part in (one for some in (*(_QUOTED.sub(_ANY, said) for said in inner), rest) for one in _BREAKS.split(some)):
        to_file = bool(_TO_FILE.search(f" {part}"))
        words = _REDIRECTED.sub(" ", _LEADING.sub("", f" {part.strip()} ".lstrip())).split()
        if words:
            yield words, to_file


def _acts(words: list[str], to_file: bool) -> bool:
    name = words[0].rpartition("/")[2]
    if not name or _ANY in name or {"=", ">", "<"} & {*words[0]} or not _LITERAL.fullmatch(name):
        return False
    if name == "exit":
        return words[1:] not in ([], ["0"], ["$?"])
    if to_file:
        return True
    return name not in _NO_EFFECT and not only_asks(name, words[1:])
