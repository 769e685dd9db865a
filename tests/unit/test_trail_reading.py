# SPDX-License-Identifier: LGPL-2.1-or-later
"""Records as auditd writes them, read back by auparse as ausearch does: what went in comes out, and nothing else."""

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.facts.address import PciAddress
from libhook.facts.domain import Domain, HostDevice
from libhook.handlers import record

UUID = "6795d288-a702-4e31-9462-e5b227641fd4"
FIELDS = ["type", "pid", "uid", "auid", "ses", "subj", "virt", "resrc", "reason", "vm", "uuid", "bus", "device", "exe"]
"""Then hostname, addr, terminal and res, which libaudit adds."""
FORGERIES = (
    f'x" uuid={UUID} bus=pci device="0000:00:00.0" res=failed',
    f"x' uuid={UUID} res=failed",
    "x\ntype=VIRT_RESOURCE msg=audit(1.000:1): msg='virt=kvm resrc=dev reason=stop vm=\"other\" res=failed'",
    'x\x1dUID="nobody" AUID="nobody"',
    "x exe=/bin/true hostname=elsewhere res=failed",
    "x\x00y",
    "res=failed",
    "41",
    "(null)",
    "?",
    "",
)

_bytes = st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_texts = st.one_of(_bytes, st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(FORGERIES))
# To libvirt a name ends at a null byte; what auparse makes of one is not always the same.
_names = _texts.filter(lambda text: "\0" not in text)


def _line(text: str) -> str:
    """How auditd writes the record, with log_format = ENRICHED (libaudit's audit_log_user_message, then the kernel)."""
    return (
        "type=VIRT_RESOURCE msg=audit(1764000000.101:11): pid=900 uid=0 auid=4294967295 ses=4294967295 subj=unconfined "
        f"msg='{text} exe=\"/usr/bin/python3.13\" hostname=? addr=? terminal=? res=success'"
        '\x1dUID="root" AUID="unset"\n'
    )


def _read(line: str) -> list[tuple[str, str]]:
    """Each field and its value as auparse has it, decoded; the hex of what is no UTF-8 is beyond its binding."""
    auparse = pytest.importorskip("auparse", reason="python3-audit is not installed")
    parser = auparse.AuParser(auparse.AUSOURCE_BUFFER, line)
    parser.set_escape_mode(auparse.AUPARSE_ESC_RAW)
    found = []
    while parser.parse_next_event():
        assert parser.get_num_records() == 1
        parser.first_record()
        more = parser.first_field()
        while more:
            try:
                value = parser.interpret_field()
            except UnicodeDecodeError:
                value = bytes.fromhex(parser.get_field_str()).decode("utf-8", "surrogateescape")
            found.append((parser.get_field_name(), value))
            more = parser.next_field()
    return found


def _assert_comes_through(name: str, source: str) -> None:
    text = record.text(Domain(name, UUID, "kvm", ()), HostDevice("scsi", "hostdev", False, source), "start")
    assert text.isascii()
    assert text.isprintable()
    found = _read(_line(text))
    assert [field for field, _ in found] == [*FIELDS, "hostname", "addr", "terminal", "res"]
    values = dict(found)
    # What is no C string ends at its null byte for whoever reads it as one; the record holds all of it.
    assert values["vm"] == name.partition("\0")[0]
    assert values["device"] == source.partition("\0")[0]
    assert (values["uuid"], values["res"], values["reason"]) == (UUID, "success", "start")
    assert (values["uid"], values["auid"]) == ("root", "unset")  # of what auditd adds after a 0x1d


@pytest.mark.parametrize("byte", range(1, 256))
def test_each_byte_of_a_name_or_an_address_comes_through(byte: int) -> None:
    """Alone and among others."""
    alone = bytes([byte]).decode("utf-8", "surrogateescape")
    among = bytes([0x61, byte, 0x62]).decode("utf-8", "surrogateescape")
    _assert_comes_through(alone, among)
    _assert_comes_through(among, alone)


def test_all_bytes_at_once_come_through() -> None:
    """In order and backwards."""
    every = bytes(range(1, 256))
    forwards, backwards = (raw.decode("utf-8", "surrogateescape") for raw in (every, every[::-1]))
    _assert_comes_through(forwards, backwards)


@generated("names", _names, _names)
def test_any_name_and_any_address_come_through(name: str, source: str) -> None:
    """Whatever bytes, and whatever reads like the rest of a record."""
    _assert_comes_through(name, source)


@pytest.mark.parametrize("name", FORGERIES)
def test_a_name_forges_no_field_and_no_record(name: str) -> None:
    """One record of these very fields, with our result, whatever the guest is called."""
    _assert_comes_through(name, name)


@pytest.mark.parametrize("style", ["libvirt", "2011"])
def test_the_reader_can_tell_a_forgery(style: record.Style) -> None:
    """Without the encoding the same names would be taken for fields: so these tests can fail."""
    name = FORGERIES[0]
    nic = HostDevice("pci", "hostdev", True, "0000:01:00.0", PciAddress.parse("0000:01:00.0"))
    text = record.text(Domain(name, UUID, "kvm", ()), nic, "start", style)
    forged = _read(_line(text.replace(record.encode("vm", name), f'vm="{name}"')))
    assert dict(_read(_line(text)))["vm"] == name
    assert ("device", "0000:00:00.0") in forged
