# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domain XML made at random of the elements and attributes that libvirt's schema has (docs/schemas/domaincommon.rng).

Most of it is no guest that libvirt would start: an element stands where it may, with what its author put there.
"""

from xml.sax.saxutils import escape, quoteattr

from hypothesis import strategies as st
from xml_reading import UUID, hostdev, pci

# Each element's attributes, and the elements that may stand in it.
_ELEMENTS = {
    "devices": ("", "hostdev interface disk controller filesystem"),
    "hostdev": ("mode type managed sgio rawio model", "source driver address alias rom boot teaming readonly"),
    "interface": ("type managed trustGuestRxFilters", "source mac driver vlan virtualport teaming address alias"),
    "disk": ("type device snapshot sgio", "source driver target mirror backingStore address alias auth"),
    "mirror": ("type job ready", "source format backingStore"),
    "backingStore": ("type index", "source format backingStore"),
    "source": (
        "type managed namespace startupPolicy missing protocol name wwpn network bridge dev file mode writeFiltering",
        "address vendor product adapter host auth seclabel reservations slices",
    ),
    "address": ("type domain bus slot function device port target unit uuid controller multifunction", "zpci"),
    "vendor": ("id", ""),
    "product": ("id", ""),
    "adapter": ("name", ""),
    "driver": ("name model iommu queues", ""),
    "controller": ("type index model", "address master"),
    "host": ("name port transport", ""),
}
_KINDS = ("pci", "usb", "scsi", "scsi_host", "mdev", "nvme", "hostdev", "network", "file", "iscsi", "vhost", "quantum")
_WORDS = ("yes", "no", "optional", "requisite", "subsystem", "capabilities", "vfio", "scsi_host0", "default", "")
_NUMBERS = ("0", "1", "0x0000", "0x01", "0x1f", "7", "007", "08", "255", "256", "-1", "+1", " 1", "0xffffffff", "1e3")
_OTHERS = (UUID, UUID.upper(), "naa.5123456789abcde0", "iqn.1992-01.com.example:a", "../../tmp/x", "\u202e\x85")
_text = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\uffff\ufffe"), max_size=8
)
_unfit = st.sampled_from(["\x1d", "\x00", "\ud800", "\x1b[2J"])
_values = st.one_of(st.sampled_from(_KINDS + _WORDS + _NUMBERS + _OTHERS), _text)
_right = {"type": st.sampled_from(_KINDS), "managed": st.sampled_from(_WORDS[:2]), "uuid": st.just(UUID)}
_numeric = {"domain", "bus", "slot", "function", "device", "port", "target", "unit", "id", "namespace"}


def _numbers(written: str, **most: int) -> st.SearchStrategy[str]:
    parts = st.fixed_dictionaries({name: st.integers(0, value) for name, value in most.items()})
    return parts.map(lambda values: " ".join(f"{k}='{written.format(v)}'" for k, v in values.items()))


_pci_addresses = st.sampled_from(["{}", "{:#x}", "0{:o}"]).flatmap(
    lambda written: _numbers(written, domain=0xFFFFFFFF, bus=0xFF, slot=0x1F, function=7)
)
_DEVICES = st.one_of(
    _pci_addresses.map(pci),
    _pci_addresses.map(lambda a: f"<interface type='hostdev'><source><address type='pci' {a}/></source></interface>"),
    _pci_addresses.map(
        lambda a: f"<disk type='nvme'><source type='pci' managed='no' namespace='1'><address {a}/></source></disk>"
    ),
    _numbers("{}", bus=255, device=255).map(lambda a: hostdev("usb", f"<address {a}/>")),
    _numbers("{}", bus=9, target=9, unit=2**64 - 1).map(
        lambda a: hostdev("scsi", f"<adapter name='scsi_host1'/><address {a}/>")
    ),
    st.uuids().map(lambda uuid: hostdev("mdev", f"<address uuid='{uuid}'/>")),
)


@st.composite
def _element(draw: st.DrawFn, tag: str, depth: int) -> str:
    attributes, children = _ELEMENTS.get(tag, ("type name", ""))
    named = draw(st.lists(st.sampled_from(attributes.split()), unique=True)) if attributes else []
    written = "".join(f" {name}={quoteattr(draw(_value(name)))}" for name in named)
    inner = ""
    if depth and children:
        tags = draw(st.lists(st.sampled_from(children.split()), max_size=3))
        inner = "".join(draw(_element(one, depth - 1)) for one in tags)
    return f"<{tag}{written}>{inner}</{tag}>"


def _value(name: str) -> st.SearchStrategy[str]:
    likely = st.sampled_from(_NUMBERS) if name in _numeric else _right.get(name, _values)
    return st.one_of(likely, likely, likely, _values)


def devices() -> st.SearchStrategy[str]:
    """A host device of any kind that libvirt would take, at any address."""
    return _DEVICES


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A domain; its name and UUID are as they should be three times of four, or the rest would never be read."""
    name = draw(st.one_of(st.just("guest"), st.just("a b"), st.just('"\n'), _text, _unfit))
    uuid = draw(st.one_of(st.just(UUID), st.just(UUID), st.just(UUID), _values))
    kind = draw(st.sampled_from(("kvm", "kvm", "qemu", "hvf", "nonsense")))
    inner = draw(_element("devices", 4)).removesuffix("</devices>").removesuffix("/>")
    whole = "".join(draw(st.lists(devices(), max_size=2)))
    head = f"<domain type='{kind}'><name>{escape(name)}</name>\n<uuid>{escape(uuid)}</uuid>"
    return f"{head}\n{inner}{whole}</devices></domain>".encode("utf-8", "surrogatepass")
