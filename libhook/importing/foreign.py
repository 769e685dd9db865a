# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs in another language than the shell's, which the scripts start: what they do is not looked at. Pure.

What a script only reads from such a program is in the trace, and needs no word.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from libhook.importing.done import Place
from libhook.importing.effect import Effect

_READ = re.compile(r"\$\(|`|<\(|(?<!\|)\|(?![|&]|\s*(?:tee|logger|systemd-cat)\b)")
WHY = "is no script of bash or sh, so nobody knows what it does: put this line into a script of its own, for legacy"


def told(effects: Sequence[Effect], line: Callable[[Place], str]) -> Iterator[Effect]:
    """The effects without those of such programs, and once for each line why. Its log is no reason of its own."""
    lines = {one.place for one in effects if one.kind == "foreign" and not _READ.search(line(one.place))}
    seen = set[tuple[Place, str]]()
    for one in effects:
        if one.kind == "foreign" and one.place in lines:
            if (one.place, one.operation) not in seen:
                seen.add((one.place, one.operation))
                yield one._replace(kind="left", value=f"{one.target.removeprefix('./')} {WHY}")
        elif one.kind != "foreign" and not (one.place in lines and (one.done.foreign or one.kind == "needless")):
            yield one
