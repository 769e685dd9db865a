# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be said of a document without an XML parser, which takes twice as long to import as Python to start.

What is refused before it sees it: too large, empty, with a null byte, a DOCTYPE or what it is slow with. And whose
document it is.
"""

from libhook.errors import BadInput

MAX_BYTES = 16 << 20
"""More than this need not be read: libvirt takes 4 MiB from a client and 10 MiB from a file."""
NO_DOCTYPE = "libvirt's own XML has none; remove it"

# What may stand before a DOCTYPE. Atomic and possessive: whoever writes the XML must not make it slow.
_DOCTYPE = rb"(?s)(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE"  # compiled where there is one at all

_MANY = 1000
"""Attributes of one element, or namespaces of all, beyond which nobody needs any: <metadata> holds whatever its author
likes, and libxml2 before 2.12 compares each with all others (xmlParseStartTag2), for minutes where they fill 4 MiB."""
_CROWDED = rb"<(?![!?])(?>[^<>=]*+=){%d}" % (_MANY + 1)  # compiled where there are so many at all

_HEX = frozenset(b"0123456789abcdef")


def uuid(document: bytes) -> str | None:
    """The UUID of a guest in libvirt's own text; None where it is not quite that, and a parser must be asked.

    As libvirt writes it (virDomainDefFormatInternalSetRootName) only the name, which holds no ``<``, stands before it;
    what the guest's author may write freely comes after it.
    """
    before, _, after = document.partition(b"<uuid>")
    domain, _, name = before.strip().partition(b">")
    name = name.lstrip()
    if (domain != b"<domain" and not domain.startswith(b"<domain ")) or b"<" in domain[1:]:
        return None
    if not (name.startswith(b"<name>") and name.endswith(b"</name>")) or {*name[6:-7]} & {*b"<>"}:
        return None
    found, end = after[:36], after[36:43]
    parts = found.split(b"-")
    if end != b"</uuid>" or tuple(map(len, parts)) != (8, 4, 4, 4, 12) or not all(map(_HEX.issuperset, parts)):
        return None
    return found.decode()


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
    if b"<!DOCTYPE" in document:
        _check_for_doctype(document)
    if document.count(b"=") > _MANY:
        _check_for_crowds(document)


def _check_for_doctype(document: bytes) -> None:
    import re  # as long as a third of Python's start

    doctype = re.match(_DOCTYPE, document)
    if doctype:
        line = doctype[0].count(b"\n") + 1
        raise BadInput(f"the XML has a DOCTYPE, line {line}", NO_DOCTYPE)


def _check_for_crowds(document: bytes) -> None:
    import re

    crowded = re.search(_CROWDED, document)
    if crowded:
        line = document.count(b"\n", 0, crowded.start()) + 1
        raise BadInput(f"the XML has an element with more than {_MANY} attributes, line {line}", "remove some")
    if document.count(b"xmlns") > _MANY:
        line = document.count(b"\n", 0, document.index(b"xmlns")) + 1
        raise BadInput(f"the XML has more than {_MANY} namespaces, line {line}", "remove some")
