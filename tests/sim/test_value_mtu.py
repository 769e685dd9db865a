# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interface's MTU sets that of IPv6 and of other interfaces: all come back, or the start is refused before that."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest
from file_names import OTHER, WIN11
from scenario import Host

from libhook.look import interfaces
from libhook.simulation.hosts import workstation

NET, IPV6 = "/sys/devices/virtual/net/{}/mtu", "/proc/sys/net/ipv6/conf/{}/mtu"
MTUS = {"br0": "1500", "lan0": "1500", "lan1": "9000", "lan0.10": "1500", "bond0": "1500", "lan2": "1500"}
MASTERS = {"lan0": "br0", "lan1": "br0", "lan2": "bond0"}
INSTEAD = "take it out of values in the settings; a command under run may set it, if it has an undo"


def _host(root: str, config: str, **mtus: str) -> Host:
    """A bridge with two ports, of which one has a VLAN, and a bond. IPv6 has each one's MTU, or the one given."""
    host = Host(root, workstation(), config)
    for name, mtu in MTUS.items():
        for file, text in ((NET.format(name), mtu), (IPV6.format(name), mtus.get(name, mtu))):
            Path(f"{root}{file}").parent.mkdir(parents=True, exist_ok=True)
            Path(f"{root}{file}").write_text(f"{text}\n")
        Path(f"{root}/sys/class/net").mkdir(exist_ok=True, parents=True)
        Path(f"{root}/sys/class/net/{name}").symlink_to(f"../../devices/virtual/net/{name}")
    Path(f"{root}/sys/devices/virtual/net/br0/brif").mkdir()
    for name, upper in (*MASTERS.items(), ("lan0", "lan0.10")):
        Path(f"{root}/sys/devices/virtual/net/{name}/upper_{upper}").symlink_to(f"../{upper}")
        Path(f"{root}/sys/devices/virtual/net/{upper}/lower_{name}").symlink_to(f"../{name}")
    for name, upper in MASTERS.items():
        Path(f"{root}/sys/devices/virtual/net/{name}/master").symlink_to(f"../{upper}")
    return host


def _all(host: Host) -> dict[str, str]:
    return {file: host.read(file) for name in MTUS for file in (NET.format(name), IPV6.format(name))}


def _values(guest: str, **mtus: int) -> str:
    lines = (f'"/sys/class/net/{name}/mtu" = {mtu}\n' for name, mtu in mtus.items())
    return f"[{guest}values]\n{''.join(lines)}"


@pytest.mark.parametrize(
    ("mtus", "along"),
    [
        ({"br0": 9000}, []),
        ({"bond0": 9000}, ["lan2"]),
        ({"lan2": 9000}, []),
        ({"lan0": 9000}, ["br0"]),
        ({"lan0": 9000, "br0": 9000}, []),
        ({"br0": 9000, "lan0": 9000}, []),
        ({"lan0.10": 1400}, []),
    ],
)
def test_all_that_is_set_along_comes_back(root: str, mtus: dict[str, int], along: list[str]) -> None:
    """IPv6 has the interface's MTU, a bond's member the bond's, and a bridge the least of its ports'."""
    host = _host(root, _values("", **mtus))
    before = _all(host)
    host.begin(WIN11)
    changed = {file for file, mtu in _all(host).items() if mtu != before[file]}
    assert changed == {form.format(name) for name in (*mtus, *along) for form in (NET, IPV6)}
    host.event(WIN11, "release", "shutdown")
    assert (_all(host), host.leftovers) == (before, [])


@pytest.mark.parametrize(
    ("ipv6", "name", "mtu", "other"),
    [
        ({"br0": "1400"}, "br0", 9000, IPV6.format("br0")),
        ({}, "lan0", 1400, NET.format("lan0.10")),
        ({}, "bond0", 9000, NET.format("lan2")),
    ],
)
def test_what_would_not_come_back_with_it_refuses_the_start(
    root: str, ipv6: dict[str, str], name: str, mtu: int, other: str
) -> None:
    """A router may have told IPv6 another MTU, a VLAN is lowered and stays so, a bond's member may have had its own."""
    host = _host(root, _values("", **{name: mtu}), **ipv6)
    if name == "bond0":
        Path(f"{root}{other}").write_text("1400\n")
    before = _all(host)
    outcome = host.event(WIN11, "prepare")
    said = f'{NET.format(name)} also sets {other}, which is "{before[other]}" now, and would not come back: {INSTEAD}'
    assert (outcome.code, outcome.line, _all(host)) == (1, said, before)
    assert [write for write in outcome.writes if "mtu" in str(write)] == []


def test_what_cannot_be_looked_at_refuses_the_start(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what would not come back."""
    host = _host(root, _values("", br0=9000))

    def fail(*_: str) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(interfaces, "set_along", fail)
    outcome = host.event(WIN11, "prepare")
    assert outcome.line == f"{NET.format('br0')}: Input/output error: see whether ls shows its folder"
    assert (outcome.code, host.read(NET.format("br0"))) == (1, "1500")


PAIRS = [(NET.format("br0"), IPV6.format("br0")), (NET.format("lan0"), NET.format("lan0.10"))]
PARTS = [(NET.format("br0"), NET.format("lan0")), (NET.format("bond0"), NET.format("lan2"))]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("files", [*PAIRS, *PARTS])
def test_two_guests_do_not_have_one_each(root: str, files: tuple[str, str], turned: bool) -> None:
    """Each would change the other's, or keep it from its own."""
    first, second = files[::-1] if turned else files
    host = _host(root, f'[domains.win11.values]\n"{first}" = 1500\n[domains.other.values]\n"{second}" = 1500\n')
    before = _all(host)
    host.begin(WIN11)
    line = host.event(OTHER, "prepare").line
    said = f"the guest win11 ({WIN11.uuid}) sets {first}, and one of it and {second} sets or limits the other: "
    assert line.startswith(said)
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert (_all(host), host.leftovers) == (before, [])
    host.configure(f'[values]\n"{first}" = 1500\n"{second}" = 1500\n')
    outcome = host.event(WIN11, "prepare")
    together = f'"{second}" and "{first}" do not go together, as one sets or limits the other: '
    assert [line.startswith(together) for line in outcome.stderr] == [True] * (files in PAIRS)


def test_two_guests_may_both_have_a_bridge_and_its_port(root: str) -> None:
    """The last one gives both back."""
    host = _host(root, _values("", lan0=9000, br0=9000))
    before = _all(host)
    for one in (WIN11, OTHER):
        host.begin(one)
    host.event(WIN11, "release", "shutdown")
    assert [host.read(NET.format(name)) for name in ("lan0", "br0")] == ["9000", "9000"]
    host.event(OTHER, "release", "shutdown")
    assert (_all(host), host.leftovers) == (before, [])
