# SPDX-License-Identifier: LGPL-2.1-or-later
"""Moves and journal entries as data: their lines, their JSON, and the way back from wherever a device is found."""

import json
from typing import Any

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, HeldDevice, Process
from libhook.facts.host import Binding
from libhook.facts.plan import Condition, Fault, Plan, Refusal, Stays, Warn
from libhook.kinds.pci.move import Move, undo
from libhook.kinds.registry import read

NIC = PciAddress.parse("0000:01:00.0")
HOST, VFIO = Binding("e1000e"), Binding("vfio-pci", "vfio-pci")
TAKEN = Move(NIC, HOST, VFIO, "hostdev of the guest")

_drivers = st.one_of(st.none(), st.text().filter(lambda name: "/" not in name))
_addresses = st.builds(
    PciAddress, st.integers(0, 0xFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)
)
_bindings = st.builds(Binding, _drivers, st.text())
_no, _none = st.just(False), st.none()
_by = st.sampled_from(["libhook", "libvirt"])
_moves = st.builds(Move, _addresses, _bindings, _bindings, st.text(), _by, _no, _none)


_others = st.builds(
    HeldDevice,
    st.sampled_from(["usb", "scsi", "mdev", "scsi_host"]),
    st.text(),
    st.sampled_from(["nothing", "success", "failed", "unreturned"]),
    st.booleans(),
    st.booleans(),
)
_bytes = st.characters(categories=["Cs"], min_codepoint=0xDC80, max_codepoint=0xDCFF)
_names = st.text(st.one_of(st.characters(exclude_characters="\0"), _bytes))
_entries = st.builds(
    Held,
    st.text(),
    _names,
    st.text(),
    st.sampled_from(["preparing", "prepared", "refused", "started", "releasing"]),
    st.text(),
    st.builds(Process, st.integers(), st.integers()),
    st.lists(_others).map(tuple),
    st.integers(),
    st.just(()),
    st.just(()),
)


def _with_moves(held: Held, moves: list[Move]) -> Held:
    devices = tuple(HeldDevice("pci", str(move.device)) for move in moves)
    return held._replace(devices=(*held.devices, *devices), actions=tuple(moves))


_entries_with_moves = st.builds(_with_moves, _entries, st.lists(_moves, unique_by=lambda move: move.device))
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)


@generated("state", _moves)
def test_a_move_survives_the_journal(move: Move) -> None:
    """What is read back is what was written."""
    assert read(json.loads(json.dumps(move.to_json()))) == move


@generated("state", _entries_with_moves)
def test_an_entry_survives_the_journal(held: Held) -> None:
    """Names with surrogates and line feeds included."""
    assert Held.from_json(json.loads(json.dumps(held.to_json())), read) == held


@generated("state", _json)
def test_nothing_else_is_an_entry(value: object) -> None:
    """A journal is read by root after a crash: whatever is not ours is BadInput, and no other error."""
    with pytest.raises(BadInput):
        read(value)
    with pytest.raises(BadInput):
        Held.from_json(value, read)


@generated("state", _entries_with_moves, st.data())
def test_an_entry_with_one_field_changed_is_refused_or_of_that_type(held: Held, data: st.DataObject) -> None:
    """Field by field: a missing one, or one of another type, is never taken for something else."""
    fields: dict[str, Any] = json.loads(json.dumps(held.to_json()))
    key = data.draw(st.sampled_from(sorted(fields.keys() - {"format"})))
    if data.draw(st.booleans()) and key != "detached":  # which an earlier version did not write
        del fields[key]
        with pytest.raises(BadInput):
            Held.from_json(fields, read)
    else:
        fields[key] = data.draw(_json)
        try:
            assert json.loads(json.dumps(Held.from_json(fields, read).to_json()))[key] == fields[key]
        except BadInput:
            return


@pytest.mark.parametrize("driver", ["../../tmp/x", "/", "a/b"])
def test_a_driver_is_never_a_path(driver: str) -> None:
    """It becomes part of one, in /sys."""
    for binding in ("now", "want"):
        fields = {**TAKEN.to_json(), binding: [driver, ""]}
        with pytest.raises(BadInput):
            read(fields)


def test_a_move_stands_at_its_own_device() -> None:
    """An entry that says otherwise would have one device given back as another."""
    held = Held("u", "n", "kvm", "started", "b", Process(1, 1), (HeldDevice("pci", "0000:02:00.0"),), actions=(TAKEN,))
    with pytest.raises(BadInput, match="not a device of the guest"):
        Held.from_json(held.to_json(), read)


def test_nothing_is_done_twice() -> None:
    """Two actions on one device could not both be undone."""
    held = Held("u", "n", "kvm", "started", "b", Process(1, 1), (HeldDevice("pci", str(NIC)),), actions=(TAKEN, TAKEN))
    with pytest.raises(BadInput, match="two actions"):
        Held.from_json(held.to_json(), read)


FIRST_FORMAT = {
    "uuid": "u", "name": "n", "virt": "kvm", "phase": "started", "boot": "b", "libvirtd": [1, 1], "lost": 0,
    "devices": [
        {"kind": "pci", "address": str(NIC), "move": {
            "device": str(NIC), "now": ["e1000e", ""], "want": ["vfio-pci", "vfio-pci"], "why": "hostdev of the guest",
            "by": "libhook"}, "recorded": "success", "audited": True, "wedged": False},
        {"kind": "usb", "address": "001.004", "move": None, "recorded": "success", "audited": True, "wedged": False},
    ],
}  # fmt: skip
"""As an earlier version wrote it."""


@pytest.mark.parametrize("more", [{}, {"format": 1}])
def test_the_first_format_is_read(more: dict[str, int]) -> None:
    """There the one action of a device stood with it."""
    held = Held.from_json({**FIRST_FORMAT, **more}, read)
    assert held.actions == (TAKEN,)
    assert [device.key for device in held.devices] == [TAKEN.key, "usb 001.004"]


def test_the_first_format_has_no_actions_of_its_own() -> None:
    """An entry that mixes both forms is nobody's: some of it would never be undone."""
    with pytest.raises(BadInput, match="it has actions, but its format has none"):
        Held.from_json({**FIRST_FORMAT, "actions": []}, read)


def test_in_the_first_format_a_move_stands_at_its_own_device() -> None:
    """One at another device is broken."""
    broken = json.loads(json.dumps(FIRST_FORMAT))
    broken["devices"][0]["address"] = "0000:02:00.0"
    with pytest.raises(BadInput, match="is broken, or belongs to another device"):
        Held.from_json(broken, read)


@pytest.mark.parametrize(
    ("now", "found", "back"),
    [
        (HOST, VFIO, HOST),
        (HOST, Binding(None, "vfio-pci"), HOST),
        (HOST, Binding("e1000e", "vfio-pci"), HOST),
        (HOST, Binding("vfio-pci"), HOST),
        (HOST, Binding(None), HOST),
        (HOST, HOST, None),
        (HOST, Binding("vfio_pci", "vfio_pci"), HOST),
        (Binding(None), VFIO, Binding(None)),
        (Binding(None), Binding(None, "vfio-pci"), Binding(None)),
        (Binding(None), Binding(None), None),
        (Binding("e1000e", "e1000e"), VFIO, Binding("e1000e", "e1000e")),
        (Binding("e1000e", "e1000e"), Binding("e1000e", "vfio-pci"), Binding("e1000e", "e1000e")),
        (HOST, Binding("igb"), None),
        (HOST, Binding("igb", "igb"), None),
        (HOST, Binding("vfio-pci", "other"), Binding("e1000e", "other")),
        (HOST, Binding("igb", "vfio-pci"), Binding("igb")),
    ],
)
def test_the_way_back_is_found_from_where_the_device_is(now: Binding, found: Binding, back: Binding | None) -> None:
    """Only our own doing is undone: somebody else's driver or override stays."""
    way = undo(TAKEN._replace(now=now), found)
    assert way == (None if back is None else Move(NIC, found, back, "give back", back=True))


SET = Binding("e1000e", "vfio-pci")
"""As somebody leaves it who sets the override, and does not act on it yet."""


@pytest.mark.parametrize(
    ("now", "found", "writes"),
    [
        (SET, VFIO, ["", "unbind", "probe", "vfio-pci"]),
        (SET, Binding("vfio-pci"), ["unbind", "probe", "vfio-pci"]),
        (SET, Binding(None, "vfio-pci"), ["", "probe", "vfio-pci"]),
        (SET, Binding(None), ["probe", "vfio-pci"]),
        (SET, Binding("e1000e"), ["vfio-pci"]),
        (SET, SET, None),
        (SET, Binding("vfio-pci", "other"), ["unbind", "probe"]),
        (Binding("e1000e", "pci-stub"), VFIO, ["", "unbind", "probe", "pci-stub"]),
        (Binding("e1000e", "pci-stub"), Binding("e1000e", "vfio-pci"), ["pci-stub"]),
    ],
)
def test_an_override_that_was_not_acted_on_comes_last(now: Binding, found: Binding, writes: list[str] | None) -> None:
    """It would keep the driver away that has to come back; from wherever a crash left the device."""
    assert _short(undo(TAKEN._replace(now=now), found)) == writes


VF = Binding("igbvf")


@pytest.mark.parametrize(
    ("now", "found", "writes"),
    [
        (VF, VFIO, ["igbvf", "unbind", "probe", ""]),
        (VF, Binding("vfio-pci", "igbvf"), ["unbind", "probe", ""]),
        (VF, Binding(None), ["igbvf", "probe", ""]),
        (VF, Binding(None, "igbvf"), ["probe", ""]),
        (VF, Binding("igbvf", "igbvf"), [""]),
        (VF, VF, None),
        (VF, Binding("vfio-pci", "other"), ["unbind", "probe"]),
        (Binding("igbvf", "igbvf"), VFIO, ["igbvf", "unbind", "probe"]),
        (Binding("igbvf", "vfio-pci"), VFIO, ["igbvf", "unbind", "probe", "vfio-pci"]),
        (Binding("igbvf", "vfio-pci"), Binding(None, "igbvf"), ["probe", "vfio-pci"]),
        (Binding("igbvf", "vfio-pci"), Binding("igbvf", "igbvf"), ["vfio-pci"]),
        (Binding(None), VFIO, ["", "unbind"]),
    ],
)
def test_what_no_driver_may_have_without_an_override_gets_one_on_its_way(
    now: Binding, found: Binding, writes: list[str] | None
) -> None:
    """Its driver's own, from wherever a crash left the device, and none is left behind."""
    way = undo(TAKEN._replace(now=now), found, needs_override=True)
    assert _short(way) == writes


def _short(way: Move | None) -> list[str] | None:
    short = {"unbind": "unbind", "drivers_probe": "probe"}
    return way and [short.get(write.path.split("/")[-1], write.value.strip()) for write in way.writes]


@generated("state", _bindings, _bindings, st.booleans())
def test_the_way_back_is_walked_once(now: Binding, found: Binding, needs_override: bool) -> None:
    """Once there, there is nothing more to do: so it may be repeated, after a crash at any point."""
    taken = TAKEN._replace(now=now)
    way = undo(taken, found, needs_override=needs_override)
    if way and now != VFIO:
        assert way.want != found
        again = undo(taken, way.want, needs_override=needs_override)
        assert again is None or again.want == now


def test_the_writes_of_a_move() -> None:
    """The override first, so that nobody else's probe can give the device away; cleared by a lone line feed."""
    assert [write.describe() for write in TAKEN.writes] == [
        'write "vfio-pci" to /sys/bus/pci/devices/0000:01:00.0/driver_override',
        'write "0000:01:00.0" to /sys/bus/pci/drivers/e1000e/unbind',
        'write "0000:01:00.0" to /sys/bus/pci/drivers_probe',
    ]
    assert [write.value for write in Move(NIC, VFIO, HOST, "").writes] == ["\n", "0000:01:00.0", "0000:01:00.0"]
    assert Move(NIC, VFIO, Binding(None), "").writes[-1].path.endswith("vfio-pci/unbind")
    assert Move(NIC, HOST, HOST, "").writes == ()


@generated("state", _moves, st.text(), st.text())
def test_every_line_is_printable(move: Move, one: str, other: str) -> None:
    """Whoever chose the names in it."""
    refusal = Refusal("pci x", one, other)
    said = refusal, Condition(one, refusal, other), Warn(one), Stays(move, one, other), Fault(one, other)
    for line in Plan((move, *said)).describe():
        assert line.isprintable()
