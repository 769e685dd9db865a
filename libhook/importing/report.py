# SPDX-License-Identifier: LGPL-2.1-or-later
"""What became of each line of each script, as lines of text and as JSON. Pure."""

import re
from collections.abc import Iterator, Sequence

from libhook.errors import harmless
from libhook.importing import twins
from libhook.importing.done import Place
from libhook.importing.draft import Fate
from libhook.importing.partly import can_act
from libhook.importing.sources import HOOKS, File, Sources, runs

_TITLES = (
    ("kept", "Carried over"),
    ("undone", "Undone by libhook itself"),
    ("needless", "Not needed any more"),
    ("danger", "Not carried over, because it is dangerous"),
    ("left", "Left to you: no setting says it"),
    ("wrong", "Never worked"),
)
_SYNTAX = re.compile(
    r"^\s*(?:#.*|fi\b.*|done\b.*|esac\b.*|esac|then|else|do|\{|\}|\(|\)|;;|[\w./-]+\s*\(\)\s*\{?|function\s+\S+.*|.*\)\s*|in|EOF"
    r"|elif .*|while .*|for .*|\}.*|\).*|\"|')?\s*(?:;;|;)?$"
)
_WIDEST = 110
_MOST_TOLD = 6


Partly = Sequence[tuple[File, int, str]]
"""Lines that ran only in part, and what of them did not."""


def lines_of(
    sources: Sources, fates: Sequence[Fate], ran: frozenset[Place], partly: Partly, unseen: Partly, found: Sequence[str]
) -> list[str]:
    """Return the report as lines. What scripts say in them begins no command to paste."""
    lines = list[str]()
    for how, title in _TITLES:
        some: dict[tuple[str, str], list[str]] = {}
        for one in fates:
            if one.how == how and one.text not in some.setdefault(
                (_where(sources, one.place), _text(sources, one.place)), []
            ):
                some[_where(sources, one.place), _text(sources, one.place)].append(one.text)
        if some:
            lines += ["", f"{title}:"]
        for (where, text), told in sorted(some.items(), key=lambda one: _order(one[0][0])):
            more = [f"      -> and {len(told) - _MOST_TOLD} more"] if len(told) > _MOST_TOLD else []
            lines += [f"  {where}  {_short(text)}", *(f"      -> {what}" for what in told[:_MOST_TOLD]), *more]
    never = list(never_ran(sources, ran))
    acting = [(file, number) for file, number in never if can_act(file.lines[number - 1])]
    if never:
        lines += ["", "Never ran, so nobody knows what it does; see whether you need it:"]
        lines += [f"  {file.origin}:{number}  {_short(file.lines[number - 1])}" for file, number in acting]
    if idle := len(never) - len(acting):
        lines += [f"  lines that only say or decide something: {idle}"]
    if partly:
        lines += ["", "Ran only in part: this never did, so nobody knows what it does:"]
    for file, number, what in partly:
        lines += [f"  {file.origin}:{number}  {_short(file.lines[number - 1])}", f"      -> {_short(what)}"]
    if unseen:
        lines += ["", "Ran, and nothing was seen of it here; see whether you need it:"]
        lines += [f"  {file.origin}:{number}  {_short(what)}" for file, number, what in unseen]
    if found:
        lines += ["", "To know:", *(f"  {one}" for one in found)]
    return [harmless(line) for line in lines]


def data_of(
    sources: Sources, fates: Sequence[Fate], ran: frozenset[Place], partly: Partly, unseen: Partly, found: Sequence[str]
) -> dict[str, object]:
    """Return the report for JSON."""
    return {
        "lines": [{"file": _origin(sources, one.place), "line": one.place.line, "text": _text(sources, one.place),
                   "what": one.how, "becomes": one.text} for one in fates],
        "never_ran": [{"file": file.origin, "line": number, "text": file.lines[number - 1],
                       "acts": can_act(file.lines[number - 1])} for file, number in never_ran(sources, ran)],
        "ran_in_part": [{"file": file.origin, "line": number, "text": what} for file, number, what in partly],
        "unseen": [{"file": file.origin, "line": number, "text": what} for file, number, what in unseen],
        "found": list(found),
    }  # fmt: skip


def never_ran(sources: Sources, ran: frozenset[Place]) -> Iterator[tuple[File, int]]:
    """Every line that is a command and that did not run. A command over several lines ran if its first line did."""
    by_file = dict[str, set[int]]()
    for place in ran:
        by_file.setdefault(place.file, set()).add(place.line)
    same = twins.firsts(sources)
    for file in sources.files:
        if not file.place or not file.is_shell or not _is_part(file) or same[file.place] != file.place:
            continue
        own = by_file.get(file.place, set())
        heredoc, goes_on = "", False
        for number, line in enumerate(file.lines, 1):
            if heredoc:
                heredoc = "" if line.strip() == heredoc else heredoc
                continue
            if found := re.search(r"<<-?\s*[\"']?(\w+)", line):
                heredoc = found[1]
            if not goes_on and number not in own and not _SYNTAX.match(line):
                yield file, number
            goes_on = line.rstrip().endswith(("\\", "&&", "||", "|", "("))


def _is_part(file: File) -> bool:
    """Whether it is a script, and not what lies beside."""
    if file.place.endswith((".conf", ".service", ".timer", ".socket", ".md", ".txt", ".xml", ".json", ".csv", ".ini")):
        return False
    return runs(file) and (file.place.startswith(HOOKS) or file.text.startswith("#!") or file.place.endswith(".sh"))


def _origin(sources: Sources, place: Place) -> str:
    file = sources.at(place.file)
    return file.origin if file else place.file or "the hook"


def _where(sources: Sources, place: Place) -> str:
    return f"{_origin(sources, place)}:{place.line}"


def _order(where: str) -> tuple[str, int]:
    path, _, number = where.rpartition(":")
    return path, int(number) if number.isdigit() else 0


def _text(sources: Sources, place: Place) -> str:
    file = sources.at(place.file)
    return file.lines[place.line - 1].strip() if file and 0 < place.line <= len(file.lines) else ""


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]}..."
