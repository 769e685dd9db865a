# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest whose author made fields of its XML as long as may be, from prepare to release: what is kept can be read."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock
from xml.sax.saxutils import escape, quoteattr

import pytest
from cases import NIC
from generated import generated
from hypothesis import example
from hypothesis import strategies as st
from scenario import Host, guest

from libhook.effects import files
from libhook.facts.identity import Note
from libhook.facts.shared import Shared
from libhook.simulation.build import scratch
from libhook.simulation.hosts import nic

ASKS = """
[audit]
extra = true
[values]
"kernel.core_pattern" = "{name}"
"""
"""What has the guest's name in its entry, and in a claim; and what has more of its devices there."""
PATTERN = "/proc/sys/kernel/core_pattern"
_HOSTDEV = "<hostdev mode='subsystem' type='{}' managed='yes'><source {}>{}</source>{{0}}{{1}}</hostdev>"
_DEVICES = (
    _HOSTDEV.format("scsi", "protocol='iscsi' name={2}", "<host name={3} port='1'/>"),
    _HOSTDEV.format("scsi", "", "<adapter name={2}/><address bus='0' target='0' unit='3'/>"),
    _HOSTDEV.format("scsi_host", "protocol='vhost' wwpn={2}", ""),
    _HOSTDEV.format("mdev", "", "<address uuid={2}/>"),
    _HOSTDEV.format("usb", "startupPolicy={2}", "<address bus='1' device='4'/>"),
    _HOSTDEV.format("usb", "", "<vendor id={2}/><product id={3}/>"),
    "<interface type='network'><source network={2} portgroup={3}/><target dev={2}/>{0}{1}</interface>",
    "<interface type='hostdev'><mac address={2}/><source><address type='pci' bus={3}/></source>{0}{1}</interface>",
    "<disk type='network'><source protocol={2} name={3}/><target dev={2}/>{0}{1}</disk>",
    "<disk type='block'><source dev={2}/><serial>x</serial><target dev={3}/>{0}{1}</disk>",
)
_LONG_NAME = _DEVICES[0].format("", "", quoteattr("\x7f" * 100_000), quoteattr("a"))
"""One that once had no bound."""
_texts = st.one_of(
    st.sampled_from(["1", "0x8086", "sda", "c7a5fdbd-edaf-9455-926a-d65c16db1810", "iqn.1992-01.com.example:a/1"]),
    st.builds(
        lambda letter, number: str(letter * number),
        st.sampled_from(["a", "9", "é", "😀", "\x7f", "'", '"', "%", "\\", " ", "\u202e", "{", "{name}", "/", "-"]),
        st.sampled_from([0, 1, 16, 64, 128, 255, 256, 4097, 100_000]),
    ),
)
_names = st.one_of(st.just("win11"), _texts.filter(lambda text: "\0" not in text and "/" not in text))


@st.composite
def _devices(draw: st.DrawFn) -> str:
    one = draw(st.sampled_from(_DEVICES))
    first, second, alias, model = (quoteattr(draw(_texts)) for _ in range(4))
    return one.format(f"<alias name={alias}/>", f"<driver name='vfio' model={model}/>", first, second)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One for all lives."""
    root = scratch()
    host = Host(root, nic(), ASKS)
    host.put(PATTERN, "core")
    yield host
    shutil.rmtree(root, ignore_errors=True)


def _read_all(host: Host) -> int:
    """Read what is kept of guests and of what they share, and return how many entries there are."""
    for name in host.state.names("shared"):
        Shared.from_json(json.loads(host.state.read_shared(name.removesuffix(".json")) or ""))
    for note in Path(host.machine.notes).glob("*.json"):
        Note.from_json(json.loads(note.read_text()))
    return len([host.state.load(uuid) for uuid in host.state.uuids()])


def test_what_is_kept_of_any_guest_can_be_read_again(host: Host) -> None:
    """Or it is refused before the first write; in both cases nothing is left after its end.

    The limits of reading are lower here, so that a field without a bound needs no XML of megabytes to pass them.
    """
    found = set()

    @example("win11", [_LONG_NAME])
    @generated("XML", _names, st.lists(_devices(), max_size=4))
    def live(name: str, devices: list[str]) -> None:
        document = guest(NIC).xml(1, False).decode().replace("<devices>", f"<devices>{''.join(devices)}", 1)
        document = document.replace(">win11<", f">{escape(name)}<", 1)

        def call(*arguments: str) -> int:
            outcome = host.call((name, *arguments), document.encode())
            assert outcome.code == 0 or outcome.writes == ()
            assert all("itself failed" not in line and len(line) < 2000 for line in outcome.stderr)
            _read_all(host)
            return outcome.code

        found.add(refused := call("prepare", "begin", "-"))
        if not refused:
            assert (call("start", "begin", "-"), call("started", "begin", "-"), _read_all(host)) == (0, 0, 1)
            assert host.driver(NIC) == "vfio-pci"
        assert call("release", "end", "failed" if refused else "shutdown") == 0
        assert (host.leftovers, host.changed, host.read(PATTERN)) == ([], [], "core")

    with mock.patch.object(files, "_ROOM", 30_000), mock.patch.object(files, "LONGEST", 60_000):
        live()
    assert found == {0, 1}
