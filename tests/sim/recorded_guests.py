# SPDX-License-Identifier: LGPL-2.1-or-later
"""The calls of its hook that a real libvirtd made, in order: tests/data/hook-stdin."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import unescape

FOLDER = Path(__file__).parents[1] / "data" / "hook-stdin"
_OVER = ("stopped", "release")


def calls() -> Iterator[tuple[tuple[str, str, str, str], bytes]]:
    """The arguments and the document of each."""
    for path in sorted(FOLDER.glob("*.xml")):
        _, _, operation, extra = path.name.removesuffix(".xml").split(".")
        xml = path.read_bytes()
        name = re.search(rb"<name>(.*?)</name>", xml)
        assert name
        yield (unescape(name[1].decode()), operation, "end" if operation in _OVER else "begin", extra), xml
