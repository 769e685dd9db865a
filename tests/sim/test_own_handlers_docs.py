# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples of docs/own-handlers.md, each loaded and played as it is printed."""

import re
from pathlib import Path

import pytest
from cases import NIC
from own import enabled, host, swappiness
from scenario import Host, guest
from test_run import argvs

from libhook.facts import ownhandler
from libhook.facts.event import ATTACH, DETACH, OPERATIONS
from libhook.testing import Outcome, play

DOCUMENT = (Path(__file__).parents[2] / "docs/own-handlers.md").read_text()
EXAMPLES = dict(re.findall(r"`(\w+)\.py` [^`]*\n\n```python\n(.*?)```", DOCUMENT, flags=re.S))
SETTINGS = "".join(re.findall(r"```toml\n(.*?)```", DOCUMENT, flags=re.S))
MORE = "[domains.win11.handlers.jumbo]\n[domains.win11.handlers.swap]\n"
MTU, PROGRAM = "/sys/class/net/br0/mtu", "/usr/local/sbin/backup"
WIN11 = guest(NIC)
BRIDGE = "<interface type='bridge'><source bridge='{}'/><target dev='vnet0'/></interface>"
DISK = "<disk type='file'><source file='/srv/images/disk.qcow2'/><target dev='vdb'/></disk>"


def _played(root: str, *, bridge: str = "br0", piness: str = "7", hour: int = 12) -> tuple[Host, Outcome]:
    """A host whose guest wants all four, at this hour."""
    own = host(root, f"{SETTINGS}{MORE}")
    own.put(MTU, "1500")
    own.program(PROGRAM)
    for name, text in EXAMPLES.items():
        enabled(own, text, name)
    metadata = f"<x:swap xmlns:x='https://example.org/host' piness='{piness}'/>"
    guest = WIN11._replace(metadata=metadata, elements=f"{BRIDGE.format(bridge)}\n{DISK}")
    return own, play("prepare", guest, own, at=f"2026-01-31T{hour:02}:30")


def test_they_do_what_the_document_says(root: str) -> None:
    """Values and commands hold while the guest runs, and are undone."""
    assert EXAMPLES.keys() == {"night", "jumbo", "pause", "swap"}
    own, prepared = _played(root)
    assert (prepared.code, prepared.stderr) == (0, ())
    assert swappiness(own) == "7"
    assert own.read(MTU) == "9000"
    disk = "/srv/images/disk.qcow2"
    assert argvs(own) == [[PROGRAM, "pause", disk]]
    own.event(WIN11, "release", "shutdown")
    assert argvs(own)[1:] == [[PROGRAM, "resume", disk]]
    assert (swappiness(own), own.read(MTU)) == ("60", "1500")
    assert own.leftovers == []


def test_at_night_the_guest_is_refused(root: str) -> None:
    """By the clock that handlers are told."""
    _, outcome = _played(root, hour=23)
    assert outcome.line == "handler night: no guest starts from 23 to 7 o'clock: wait until 7 o'clock"


@pytest.mark.parametrize("bridge", ["../../vm/swappiness", "a b", "x" * 9000])
def test_a_guests_author_gets_no_further(root: str, bridge: str) -> None:
    """A bridge that is no name of one refuses, and metadata that are no number warn."""
    _, outcome = _played(root, bridge=bridge)
    assert outcome.code == 1
    assert "jumbo" in outcome.line
    assert outcome.writes == ()


def test_metadata_that_are_wrong_are_a_warning(root: str) -> None:
    """The start goes on."""
    own, outcome = _played(root, piness="1e9")
    assert outcome.code == 0
    assert "warning: handler swap: swappiness '1e9' in the metadata is no number up to 100" in outcome.plan
    assert swappiness(own) == "60"


def test_an_example_is_short(root: str) -> None:
    """Twenty lines at most, blank ones included."""
    assert root
    assert all(text.count("\n") <= 20 for text in EXAMPLES.values())


def test_the_tables_have_all_that_there_is() -> None:
    """Each operation, with whether it may refuse; each module."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (yes)? ?\|", DOCUMENT, flags=re.M)
    refusing = {name: bool(yes) for names, yes in rows for name in re.findall(r"\w+", names)}
    all_ = {**OPERATIONS, "attach": ATTACH, "detach": DETACH}
    for name in ownhandler.OPERATIONS:
        assert refusing[name] == all_[name].may_veto, name
    (listed,) = re.findall(r"These may be imported:\n\n```text\n(.*?)```", DOCUMENT, flags=re.S)
    assert set(listed.split()) == set(ownhandler.MODULES) - {"xml", "xml.etree"}
