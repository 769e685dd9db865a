# SPDX-License-Identifier: LGPL-2.1-or-later
"""What can be said of a document without an XML parser. Importing a parser takes twice as long as starting Python.

``check`` refuses what a parser should not see: a document that is too large or empty, has a null byte or a DOCTYPE, or
would take very long to parse. ``uuid`` says which guest the document is for.
"""

from libhook.errors import BadInput

MAX_BYTES = 16 << 20
"""No longer document need be read: libvirt takes 4 MiB from a client and 10 MiB from a file."""
NO_DOCTYPE = "libvirt's own XML has none; remove it"

# What may stand before a DOCTYPE. Atomic and possessive, so that no document can make the match slow.
_DOCTYPE = rb"(?s)(?:\xef\xbb\xbf)?(?>\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE"  # compiled only where there is one

_MANY = 1000
"""The most attributes of one element, or namespaces of all together. Nobody needs more.

<metadata> holds whatever its author likes. libxml2 before 2.12 compares each attribute with all others
(xmlParseStartTag2), which takes minutes if they fill 4 MiB."""
# A value may have > in it, and =, but no <. So no two matches begin in one element, and no document makes this slow.
_CROWDED = rb"""<(?![!?])(?>[^<>="']*+=\s*+(?:"[^"<]*+"|'[^'<]*+')){%d}""" % (_MANY + 1)  # compiled only where needed

_HEX = frozenset(b"0123456789abcdef")


def uuid(document: bytes) -> str | None:
    """The guest's UUID from text that libvirt wrote. None where the text is not quite that, and a parser must decide.

    In libvirt's text only the name stands before the UUID (virDomainDefFormatInternalSetRootName), and the name holds
    no ``<``. What the guest's author may write freely comes after the UUID.
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
    if nul:  # libvirt's string would end here
        line = before.count(b"\n") + 1
        raise BadInput(f"the XML has a null byte, line {line}")
    if b"<!DOCTYPE" in document:
        _check_for_doctype(document)
    if document.count(b"=") > _MANY:
        _check_for_crowds(document)


def _check_for_doctype(document: bytes) -> None:
    import re  # importing it takes a third as long as starting Python

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
