# SPDX-License-Identifier: LGPL-2.1-or-later
"""All small changes to the launcher that leave it a shell script, by the look of its lines."""

import re
import subprocess
from collections.abc import Iterator

from change import Change

_LABEL = re.compile(rb"(^\t*|\bin )(?!#)([^\s()#][^()#\n]*?)\)(?=[ \n])", re.MULTILINE)
"""What a case is chosen by."""
_ALTERNATIVE = re.compile(rb"""(?:'[^']*'|"[^"]*"|[^|'"])+""")
_REPLACED: tuple[tuple[str, bytes, tuple[bytes, ...]], ...] = (
    ("another exit status", rb"\bexit 0\b", (b"exit 1",)),
    ("another exit status", rb"\bexit 1\b", (b"exit 0",)),
    ("another exit status", rb'\bexit "\$status"', (b"exit 0", b"exit 1")),
    ("test negated", rb"(?<=[ \t{])\[ ", (b"! [ ",)),
    ("comparison", rb" -gt ", (b" -le ", b" -ge ")),
    ("comparison", rb" -le ", (b" -gt ", b" -lt ")),
    ("comparison", rb" (?<!status)= (?=\S)", (b" != ",)),
    ("comparison", rb" != ", (b" = ",)),
    ("|| for &&", rb" && ", (b" || ",)),
    ("&& for ||", rb" \|\| ", (b" && ",)),
    ("redirection dropped", rb" (?:2>&1|>&2|[23]?[<>]{1,2}(?:&0|/dev/null))", (b"",)),
    ("emptied", rb"=yes\b", (b"=",)),
    ("filled", rb"(?<=\w)=(?=[\s;])", (b"=yes",)),
    ("default dropped", rb"(?<=\w):?[-+][^}\s]+(?=\})", (b"",)),
    ("shortest for longest", rb"%%|##", (b"%",)),
    ("another number", rb"(?<![\w$&>-])(?<!exit )\d+(?![\w>]| ?[|)])", (b"7",)),
    ("signal dropped", rb" (?:HUP|INT|QUIT|ALRM|TERM|USR1|USR2|PIPE)\b", (b"",)),
    ("option dropped", rb"(?<=python3) -I|(?<=-I) -S", (b"",)),
)
_SIMPLE = re.compile(
    rb"""^(\t*)(?!#|\}|\{|case\b|esac|if\b|else|fi\b|for\b|done|;;|exit\b|')([^\n#]*[^\n;{|(\\])$""", re.MULTILINE
)
"""A line that is a command by itself."""


def changes(source: bytes) -> list[Change]:
    """Each that a shell still understands, once."""
    found: dict[bytes, Change] = {}
    for change in _all(source):
        changed = change.apply(source)
        if changed != source and changed not in found and _is_shell(changed):
            found[changed] = change
    return sorted(found.values(), key=lambda change: change.start)


def _all(source: bytes) -> Iterator[Change]:
    for label in _LABEL.finditer(source):
        alternatives = [(one.start(), one.end()) for one in _ALTERNATIVE.finditer(source, *label.span(2))]
        for at, (start, end) in enumerate(alternatives):
            if len(alternatives) == 1:
                yield Change("label removed", start, end, b"'no such'")
            else:
                yield Change("label removed", start - (at > 0), end + (at == 0), b"")
    comments = [match.span() for match in re.finditer(rb"(?:^|(?<=[\t ]))#[^\n]*", source, re.MULTILINE)]
    for what, pattern, others in _REPLACED:
        for match in re.finditer(pattern, source):
            if not any(start <= match.start() < end for start, end in comments):
                yield from (Change(what, *match.span(), other) for other in others)
    for line in _SIMPLE.finditer(source):
        yield Change("removed", *line.span(2), b":")


def _is_shell(source: bytes) -> bool:
    command = ["/bin/sh", "-n"]
    return subprocess.run(command, input=source, capture_output=True, timeout=300, check=False).returncode == 0
