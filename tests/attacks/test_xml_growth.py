# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may define a guest puts into its XML what a parser is slow with: libhook reads it while libvirtd waits."""

import time
from collections.abc import Callable

import pytest
from cases import NIC
from growth import grows_with
from launcher import WITH_DEVICE
from scenario import Host, guest

from libhook.errors import BadInput
from libhook.simulation.hosts import nic
from libhook.xml import domxml


def _times(text: bytes, size: int) -> bytes:
    return text * (size // len(text))


def _numbered(text: str, size: int) -> bytes:
    return "".join(text.replace("#", str(number)) for number in range(size // len(text) // 2)).encode()


SHAPES: dict[str, Callable[[int], bytes]] = {
    "attributes": lambda size: b"<a " + _numbered(" a#=''", size) + b"/>",
    "attributes with a >": lambda size: b"<a " + _numbered(" a#='>'", size) + b"/>",
    "nearly too many of them": lambda size: _times(b"<a " + _numbered(" a#=''", 11_980) + b"/>", size),
    "namespaces": lambda size: (
        b"<a " + _numbered(" xmlns:a#='u'", size // 2) + b">" + _times(b"<a0:b/>", size) + b"</a>"
    ),
    "namespaces of many": lambda size: (
        _numbered("<a xmlns:a#='u'>", 200 * 32)
        + b"<b "
        + _numbered(" xmlns:b#='u'", 700 * 26)
        + b">"
        + _times(b"<a0:c/>", size)
        + b"</b>"
        + b"</a>" * 200
    ),
    "references": lambda size: _times(b"a&lt;&#65;", size),
    "references in an attribute": lambda size: b"<a b='" + _times(b"a&lt;&#65;", size) + b"'/>",
    "comments in a text": lambda size: _times(b"a<!-- = --><?b c?>", size),
    "sections in a text": lambda size: _times(b"a<![CDATA[b]]>", size),
    "signs": lambda size: _times(b"a='", size),
    "nearly elements": lambda size: _times(b"<a = = = <! = ", size),
}


@pytest.mark.rest
@pytest.mark.parametrize("shape", SHAPES)
def test_reading_grows_with_the_text(shape: str) -> None:
    """Four times as much of it takes about four times as long, or is refused."""

    def made(size: int) -> bytes:
        return WITH_DEVICE.replace(b"</uuid>", b"</uuid><metadata>" + SHAPES[shape](size) + b"</metadata>")

    def cost(document: bytes) -> float:
        begun = time.process_time()
        try:
            assert domxml.parse(document).devices
        except BadInput:
            assert shape in ("attributes", "attributes with a >", "namespaces", "nearly elements")
        return time.process_time() - begun

    grows_with(made, cost, 8_000_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<a " + " b=''" * 1001 + "/>", "an element with more than 1000 attributes, line 4: remove some"),
        (
            "<a " + " b = '>'" * 501 + ' c=">="' * 500 + "/>",
            "an element with more than 1000 attributes, line 4: remove some",
        ),
        ("<a xmlns='u'/>" * 1001, "more than 1000 namespaces, line 4: remove some"),
    ],
)
def test_what_the_parser_is_slow_with_is_refused(root: str, text: str, line: str) -> None:
    """In one line at prepare; whatever runs or ends goes on."""
    host = Host(root, nic())
    xml = WITH_DEVICE.replace(b"</uuid>\n", f"</uuid>\n<metadata>{text}</metadata>".encode())
    outcome = host.event(guest(NIC), "prepare", xml=xml)
    assert (outcome.code, outcome.line) == (1, f"the XML has {line}")
    for operation in ("started", "reconnect", "release"):
        outcome = host.event(guest(NIC), operation, xml=xml)
        assert (outcome.code, outcome.stderr) == (0, ())
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "<a>" + "b=" * 2000 + "</a>",
        "<!--" + "b=" * 2000 + "-->",
        "<a b=''/>" * 2000,
        "<a b='" + "c=" * 2000 + "'/>",
        "<a b='" + 'c="">' * 2000 + "'/>",
    ],
    ids=["a text", "a comment", "elements", "a value", "a value with quotes"],
)
def test_what_only_looks_like_that_is_read(text: str) -> None:
    """Many signs in a text, a comment or a value, many elements with an attribute each."""
    xml = WITH_DEVICE.replace(b"</uuid>", f"</uuid><metadata>{text}</metadata>".encode())
    assert domxml.parse(xml).devices
