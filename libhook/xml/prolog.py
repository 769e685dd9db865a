# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be said of a document without an XML parser, which takes twice as long to import as Python to start.

What is refused before it sees it: too large, empty, with a null byte, a DOCTYPE or what it is slow with. And whose
document it is.
"""

import re

from libhook.errors import BadInput

MAX_BYTES = 16 << 20
"""More than this need not be read: libvirt takes 4 MiB from a client and 10 MiB from a file."""
NO_DOCTYPE = "libvirt's own XML has none; remove it"

# What may stand before a DOCTYPE. Atomic and possessive: whoever writes the XML must not make it slow.
_DOCTYPE = re.compile(rb"(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)

_MANY = 1000
"""Attributes of one element, or namespaces of all, beyond which nobody needs any: <metadata> holds whatever its author
likes, and libxml2 before 2.12 compares each with all others (xmlParseStartTag2), for minutes where they fill 4 MiB."""
_CROWDED = rb"<(?![!?])(?>[^<>=]*+=){%d}" % (_MANY + 1)  # compiled where there are so many at all

# As libvirt writes it (virDomainDefFormatInternalSetRootName): what the guest's author may write freely comes after the
# UUID, but for the name, which holds no "<".
_GUEST = (  # compiled where it is needed, at the end of a guest
    rb"\s*<domain(?: [^<>]*)?>\s*<name>[^<>]*</name>\s*<uuid>([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})</uuid>"
)


def uuid(document: bytes) -> str | None:
    """The UUID of a guest in libvirt's own text; None where it is not quite that, and a parser must be asked."""
    found = re.match(_GUEST, document)
    return found[1].decode() if found else None


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
    if document.count(b"=") > _MANY:
        _check_for_crowds(document)


def _check_for_crowds(document: bytes) -> None:
    crowded = re.search(_CROWDED, document)
    if crowded:
        line = document.count(b"\n", 0, crowded.start()) + 1
        raise BadInput(f"the XML has an element with more than {_MANY} attributes, line {line}", "remove some")
    if document.count(b"xmlns") > _MANY:
        line = document.count(b"\n", 0, document.index(b"xmlns")) + 1
        raise BadInput(f"the XML has more than {_MANY} namespaces, line {line}", "remove some")
