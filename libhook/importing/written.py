# SPDX-License-Identifier: LGPL-2.1-or-later
"""The drop-in as text. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from libhook.errors import named as unpasted
from libhook.errors import printable
from libhook.facts.written import named, written
from libhook.importing.draft import Draft


class Section(NamedTuple):
    """One section: its keys, ``()`` at the top, and what is in it."""

    keys: tuple[str, ...]
    draft: Draft


def text(sections: list[Section], paths: list[str], legacy: str) -> str:
    """Return the whole file. ``legacy`` is a script that goes on as it is; "" for none."""
    is_empty = not sections and not legacy
    more = "Nothing of it became a setting: see why." if is_empty else "Read it before you trust it."
    lines = [f"# Made by libhook import from {', '.join(map(unpasted, paths))}. {more}"]
    top = [section for section in sections if not section.keys]
    sections = [section for section in sections if section.keys]
    for section in top:
        lines += _section(section)
    if legacy:
        lines += ["[legacy]", f"path = {_value(legacy)}"]
    for section in sections:
        lines += _section(section)
    return "".join(f"{printable(line)}\n" for line in lines)


def _section(section: Section) -> Iterator[str]:
    draft, keys = section.draft, section.keys
    plain = [(key, value) for key, value in (("sleep", draft.sleep[:1] and draft.sleep[0]), ("modules", draft.modules),
             ("mounts", draft.mounts), ("end", draft.end), ("take_along", draft.along)) if value]  # fmt: skip
    if plain:
        if keys:
            yield f"[{named(keys)}]"
        yield from (f"{key} = {_value(value)}" for key, value in plain)
    for name, table in (("units", draft.units), ("values", draft.values)):
        if table:
            yield f"[{named((*keys, name))}]"
            yield from (f"{_value(key)} = {_value(value)}" for key, value in sorted(table.items(), key=_natural))
    for kind, entries in (("require", draft.require), ("run", draft.run)):
        for name, entry in entries.items():
            yield f"[{named((*keys, kind, name))}]"
            yield from (f"{key} = {_value(value)}" for key, value in entry.items())


def _natural(item: tuple[str, object]) -> list[tuple[bool, int, str]]:
    """So that cpu2 comes before cpu10. Units keep to the alphabet: they go all at once."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", item[0])]


def _value(value: object) -> str:
    """A value as TOML writes it, control characters escaped."""
    shown = written(value)
    return "".join(f"\\u{ord(one):04x}" if ord(one) < 32 or ord(one) == 127 else one for one in shown)


def without(draft: Draft, base: Draft) -> Draft:
    """The draft without what the sections for all guests say already."""
    run = {name: entry for name, entry in draft.run.items() if base.run.get(name) != entry}
    return draft._replace(
        units={key: value for key, value in draft.units.items() if base.units.get(key) != value},
        values={key: value for key, value in draft.values.items() if base.values.get(key) != value},
        modules=[one for one in draft.modules if one not in base.modules],
        mounts=[one for one in draft.mounts if one not in base.mounts],
        sleep=[] if base.sleep else draft.sleep,
        run=run,
        require={name: entry for name, entry in draft.require.items() if base.require.get(name) != entry},
    )
