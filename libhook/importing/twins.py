# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are the same under several names, as by links: what ran of one ran of all. Pure."""

from libhook.importing.done import Place
from libhook.importing.sources import Sources


def firsts(sources: Sources) -> dict[str, str]:
    """Each file's place, and the first place with the same text."""
    by_text = dict[str, str]()
    return {file.place: by_text.setdefault(file.text, file.place) for file in sources.files if file.place}


def first(place: Place, of: dict[str, str]) -> Place:
    """The same line in the first of its file's names."""
    return Place(of.get(place.file, place.file), place.line)
