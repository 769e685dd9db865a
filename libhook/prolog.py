# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is refused before the XML parser sees it: too large, empty, with a null byte or a DOCTYPE."""

import re

from libhook.errors import BadInput

MAX_BYTES = 16 << 20
"""More than this need not be read: libvirt takes 4 MiB from a client and 10 MiB from a file."""
NO_DOCTYPE = "libvirt's own XML has none; remove it"

# What may stand before a DOCTYPE. Atomic and possessive: whoever writes the XML must not make it slow.
_DOCTYPE = re.compile(rb"(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)


def check(document: bytes) -> None:
    """BadInput, with the line, if the document must not be parsed."""
    if len(document) > MAX_BYTES:
        raise BadInput(f"the XML has more than {MAX_BYTES >> 20} MiB, line 1")
    if not document.strip():
        raise BadInput("the XML is empty, line 1")
    before, nul, _ = document.partition(b"\0")
    if nul:  # libvirt's string ends here
        line = before.count(b"\n") + 1
        raise BadInput(f"the XML has a null byte, line {line}")
    doctype = _DOCTYPE.match(document)
    if doctype:
        line = doctype[0].count(b"\n") + 1
        raise BadInput(f"the XML has a DOCTYPE, line {line}", NO_DOCTYPE)
