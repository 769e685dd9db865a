# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which guests the scripts know: by folders, by comparisons that were seen, by files, and by tables. Pure."""

import json
import re
from collections.abc import Iterator, Sequence

from libhook.importing import meaning
from libhook.importing.done import Place
from libhook.importing.life import Life
from libhook.importing.sources import ANY, HOOKS, OPERATIONS, File, Sources

_SUBS = ("begin", "end")
_LONG_TEST = re.compile(r"\[\[ (?:! )?(.+?) (==|=|!=|=~) (.*?) \]\]")
_TEST = re.compile(r"(?<!\S)(\S+) '?(==|=|!=)'? (\S+)")
_CASE = re.compile(r"case (.+) in$")
_ASSIGNED = re.compile(r"(?:local |declare |readonly |export )?(\w+)=(\S*|'[^']*')$")
_VARIABLE = re.compile(r"\$(?:\{(\w+)[^}]*\}|(\w+))")
_GLOB = re.compile(r"(?<!\\)[*?\[]")
_PATTERN = re.compile(
    r"""^\s*\(?((?:"[^"]*"|'[^']*'|[\w*?.\[\]@{}:/+$,=%~-])+(?:\s*\|\s*(?:"[^"]*"|'[^']*'|[\w*?.\[\]@{}:/+$,=%~-])+)*)\s*\)"""
)
_IN_TREE = re.compile(rf"/([^/]+)/(?:{'|'.join(OPERATIONS)})(?:[/.-]|$)")
_WORDS = re.compile(r"\^?\(?([\w.-]+(?:\|[\w.-]+)*)\)?\$?")
_TABLES = (".csv", ".json", ".yaml", ".yml", ".ini", ".conf", ".toml", ".txt", ".list", ".tsv")
_KEY = re.compile(r"""^\[?["']?([A-Za-z][\w.-]{0,60})["']?\s*(?:[],;:\t ]|$)""", re.M)
_INDEX = re.compile(r"""\[["']?([A-Za-z][\w.-]*)["']?\]=""")
_MOST = 12
_MOST_COMMANDS, _LONGEST = 5000, 400
_REASONS = "shutdown destroyed crashed migrated saved failed daemon"


def in_tree(sources: Sources) -> list[str]:
    """The guests that have a folder."""
    places = [file.place for file in sources.files if file.place.startswith(HOOKS)]
    found = (_IN_TREE.search(place.removeprefix(HOOKS)) for place in places)
    names = {one[1] for one in found if one}
    return sorted(names - {ANY, "qemu.d", "default", "default.d", "common", "all", "scripts", "hooks"})


def named(life: Life, sources: Sources) -> list[str]:
    """The guests' names, and patterns, that the scripts compare the name of this life's guest with."""
    found = dict.fromkeys(_by_files(life, sources))
    for _, value, other in _compared(life, sources):
        if life.guest.called in value:
            for name in _aligned(value, other, life.guest.called):
                found.setdefault(name)
    return [name for name in found if name and not set(name) <= set("*?/") and len(name) < 256]


def _by_files(life: Life, sources: Sources) -> Iterator[str]:
    """The guests that have a file of their own: one is looked for by the name of this life's guest."""
    own = life.guest.called
    seen = {
        word.strip("'\"()") for _, command in life.commands for word in command.split() if own in word and "/" in word
    }
    seen |= {path for _, trace in life.steps for path in trace.read if own in path}
    for path in sorted(seen)[:200]:
        pattern = re.compile(re.escape(path).replace(re.escape(own), r"([^/]+?)", 1) + "(?:/.*)?")
        yield from (found[1] for file in sources.files if (found := pattern.fullmatch(file.place)))


def is_by_hand(life: Life) -> bool:
    """Whether this is no guest's name, but a word for use by hand: at each operation the same is done."""
    done = dict[str, set[tuple[str, str, str]]]()
    for outcome, one in life.steps:
        operation = outcome.call.operation
        acts = (effect for effect in meaning.of(one.done, operation, {}) if effect.kind not in _NO_ACTS)
        done.setdefault(operation, set()).update((effect.kind, effect.target, effect.value) for effect in acts)
    first, *others = done.values() or [set[tuple[str, str, str]]()]
    ends_well = all(trace.code == 0 for _, trace in life.steps)
    return bool(first) and ends_well and len(done) == len(OPERATIONS) and all(one == first for one in others)


_NO_ACTS = ("needless", "asks")


def in_tables(sources: Sources) -> list[str]:
    """The words that stand where a table would have a guest's name. Only playing them tells."""
    tables = (file for file in sources.files if file.place.endswith(_TABLES) and file.place.startswith(HOOKS))
    found = [word for file in tables for word in _keys(file)]
    found += [word for file in sources.files if file.is_shell for word in _INDEX.findall(file.scanned)]
    return list(dict.fromkeys(found))[:_MOST]


def _keys(file: File) -> Iterator[str]:
    if not file.place.endswith(".json"):
        yield from _KEY.findall(file.scanned)
        return
    try:
        content = json.loads(file.text)
    except (ValueError, RecursionError):
        return
    rows = (
        content
        if isinstance(content, list)
        else [{"name": key} for key in content]
        if isinstance(content, dict)
        else []
    )
    for row in rows:
        if isinstance(row, dict):
            yield from (str(row[key]) for key in ("name", "domain", "vm", "guest") if key in row)


def unknown_operations(life: Life, sources: Sources) -> list[tuple[Place, str]]:
    """The words that the scripts compare the operation with, and that libvirt never says."""
    known = {*OPERATIONS, *_SUBS, "-", "*", "", *_REASONS.split()}
    found = dict[tuple[Place, str], None]()
    for place, value, other in _compared(life, sources):
        word = other.strip("\"'")
        if value in OPERATIONS and re.fullmatch(r"[a-z]+", word) and word not in known:
            found.setdefault((place, word))
    return list(found)


def _compared(life: Life, sources: Sources) -> Iterator[tuple[Place, str, str]]:
    """Each comparison of two texts. bash shows the word of a case as it is written: what is in it is looked up."""
    for outcome, one in life.steps:
        at = 1 + outcome.call.argv.index(outcome.call.guest)
        variables = {str(number): word for number, word in enumerate(outcome.call.argv[at - 1 :], 1)}
        seen = set[tuple[Place, str]]()
        for place, command in one.commands:
            if len(seen) > _MOST_COMMANDS or len(command) > _LONGEST:
                continue
            if assigned := _ASSIGNED.match(command):
                variables[assigned[1]] = _bare(assigned[2])
            elif case := _CASE.match(command):
                word = _filled(_bare(case[1]), variables)
                file = sources.at(place.file) if (place, word) not in seen else None
                seen.add((place, word))
                for pattern in _patterns(file.lines, place.line - 1) if file else ():
                    yield place, word, pattern
            elif (place, command) not in seen:
                seen.add((place, command))
                for left, right in _tested(command):
                    yield place, _bare(left), _pattern(right)
                    yield place, _bare(right), _pattern(left)


def _tested(command: str) -> Iterator[tuple[str, str]]:
    """The two sides of each comparison in a command; of a regular expression that only lists words, each of them."""
    if test := _LONG_TEST.search(command):
        if test[2] != "=~":
            yield test[1], test[3]
        elif words := _WORDS.fullmatch(_bare(test[3])):
            begin, end = ("" if sign in _bare(test[3]) else "*" for sign in "^$")
            yield from ((test[1], f"{begin}{word}{end}") for word in words[1].split("|"))
        else:  # a list of names, and whether the guest's is in it
            yield from ((_bare(test[3]).strip(), word) for word in _bare(test[1]).split())
    elif command.startswith(("'['", "[", "test ")):
        yield from ((left, right) for left, _, right in _TEST.findall(command))


def _filled(word: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), word)


def _bare(text: str) -> str:
    return text.replace("\\", "").strip("'\"")


def _pattern(text: str) -> str:
    """A text of xtrace as a pattern: what is escaped there is meant literally."""
    return _bare(text) if not _GLOB.search(text) else text.replace("\\", "").strip("'\"")


def _patterns(lines: Sequence[str], at: int) -> Iterator[str]:
    depth = 0
    for number, line in enumerate(lines[at : at + 400]):
        rest = line
        if number == 0:
            rest, depth = line.partition(" in")[2], 1
        elif re.match(r"\s*case\b.*\bin\b", line):
            depth += 1
            continue
        if re.match(r"\s*esac\b", rest):
            depth -= 1
            if depth == 0:
                return
        if depth == 1 and (found := _PATTERN.match(rest)):
            for one in found[1].split("|"):
                yield one.strip().strip("\"'")
        if number == 0 and "esac" in rest:
            return


def _aligned(value: str, other: str, name: str) -> Iterator[str]:
    """The guest's part of what is compared: ``win10/prepare`` has it before the slash."""
    if "$" in other:
        return
    before, _, after = value.partition(name)
    if before in ("", "x", "X", "_") and not after and other.startswith(before):
        yield other.removeprefix(before)
        return
    for sign in ("/", " ", ":", ",", "-", "_", "."):
        own, theirs = value.split(sign), other.split(sign)
        if name in own and len(own) == len(theirs):
            yield theirs[own.index(name)]
            return
