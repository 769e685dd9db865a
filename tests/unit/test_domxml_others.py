# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices that only libvirt records: read for inspect, and left out for the hook."""

from pathlib import Path

import pytest
from generated import generated
from hypothesis import strategies as st
from xml_reading import DOCUMENTS, UUID, document, pci, read_others

from libhook.command import report
from libhook.errors import BadInput
from libhook.facts.domain import Domain
from libhook.handlers import record
from libhook.xml import domxml

_CAPABILITY = "<hostdev mode='capabilities' type='{}'><source>{}</source></hostdev>"
_STORAGE = _CAPABILITY.format("storage", "<block>/dev/sdf1</block>")
_MISC = _CAPABILITY.format("misc", "<char>/dev/input/event 3</char>")
_NET = _CAPABILITY.format("net", "<interface>eth0</interface>")
_REDIRECTED = "<redirdev bus='usb' type='spicevmc'><address type='usb' bus='0' port='3'/></redirdev>"

_USB_REDIRDEV = "resrc=dev {} bus=usb device=555342207265646972646576"


def _brief(domain: Domain) -> list[str]:
    return [f"{other.kind} {other.source} {other.address}" for other in domain.others]


@pytest.mark.parametrize(
    ("device", "brief", "text"),
    [
        (_STORAGE, "storage hostdev /dev/sdf1", 'resrc=hostdev {} disk="/dev/sdf1"'),
        (_MISC, "misc hostdev /dev/input/event 3", "resrc=hostdev {} chardev=2F6465762F696E7075742F6576656E742033"),
        (_NET, "net hostdev eth0", None),
        (_REDIRECTED, "redir redirdev USB redirdev", _USB_REDIRDEV),
        (
            "<redirdev type='tcp'/>",
            "redir redirdev USB redirdev",
            _USB_REDIRDEV,
        ),
    ],
)
@pytest.mark.parametrize("style", ["libvirt", "2011"])
def test_inspect_shows_the_record_that_libvirt_writes(
    device: str, brief: str, text: str | None, style: record.Style
) -> None:
    """Byte for byte, whatever text our own records have; none for a network interface, which libvirt only warns of."""
    domain = domxml.parse(document(device), every_kind=True)
    assert (_brief(domain), domain.devices, domain.warnings) == ([brief], (), ())
    written = None
    if text:
        rest = text.format(f'reason=start vm="guest" uuid={UUID}')
        written = f"virt=kvm {rest}"
    kind, source, address = brief.split(" ", 2)
    no_name = {"ids": None, "vendor": None, "model": None}
    assert report.inspect_json(domain, style)["host_devices"] == [
        {"kind": kind, "source": source, "managed": False, "address": address, **no_name, "record": written}
    ]
    lines = report.inspect_text(domain, style)
    assert lines[-1] == f"    {written or 'no record'}"
    assert lines[-2].endswith("recorded by libvirt alone") == (written is not None)


def test_the_hook_has_no_business_with_them() -> None:
    """Who does not ask for every kind sees what it saw, with a line about what a container is given."""
    raw = document(_STORAGE + pci("bus='1'") + _REDIRECTED)
    domain = domxml.parse(raw)
    assert [device.address for device in domain.devices] == ["0000:01:00.0"]
    assert domain.others == ()
    assert domain.warnings == ("hostdev mode 'capabilities' is not supported, line 5",)
    assert domxml.parse(raw, every_kind=True).devices == domain.devices


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (_CAPABILITY.format("storage", "<char>/dev/x</char>"), "hostdev type 'storage' has no <block>, line 5"),
        (_CAPABILITY.format("misc", "<char/>"), "hostdev type 'misc' has no <char>, line 5"),
        ("<hostdev mode='capabilities' type='net'/>", "hostdev has no <source>, line 5"),
        ("<hostdev mode='capabilities'/>", "hostdev has no type=, line 5"),
    ],
)
def test_one_that_libvirt_refuses_is_refused(device: str, reason: str) -> None:
    """In one line, with the element's own."""
    with pytest.raises(BadInput) as caught:
        domxml.parse(document(device), every_kind=True)
    assert caught.value.line == reason


@pytest.mark.parametrize(
    ("device", "warning"),
    [
        (_CAPABILITY.format("quantum", ""), "hostdev capability 'quantum' is not known, line 5"),
        ("<redirdev bus='firewire'/>", "redirdev bus 'firewire' is not known, line 5"),
    ],
)
def test_what_a_newer_libvirt_may_have_is_passed_over(device: str, warning: str) -> None:
    """With a warning, and what comes after it is read."""
    domain = domxml.parse(document(device + _NET), every_kind=True)
    assert (domain.warnings, _brief(domain)) == ((warning,), ["net hostdev eth0"])


_text = st.text(st.characters(codec="ascii", exclude_characters="<>&", exclude_categories=["Cc"]), min_size=1)
_any = st.one_of(
    _text.map(lambda text: _CAPABILITY.format("storage", f"<block>{text}</block>")),
    _text.map(lambda text: _CAPABILITY.format("misc", f"<char>{text}</char>")),
    _text.map(lambda text: _CAPABILITY.format("net", f"<interface>{text}</interface>")),
    st.just(_REDIRECTED),
    st.integers(0, 255).map(lambda bus: pci(f"bus='{bus}' slot='1'")),
)


@generated("XML", st.lists(_any, max_size=6, unique=True))
def test_any_of_them_is_read_like_the_second_reading(devices: list[str]) -> None:
    """In the document's order, whatever stands between them."""
    raw = document("\n".join(devices))
    assert _brief(domxml.parse(raw, every_kind=True)) == read_others(raw)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_asking_for_every_kind_changes_nothing_else(path: Path) -> None:
    """Each document that libvirtd wrote names the same host devices either way."""
    raw = path.read_bytes()
    asked = domxml.parse(raw, every_kind=True)
    assert asked._replace(others=()) == domxml.parse(raw)
    assert _brief(asked) == read_others(raw)
