# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls of the hook, and files in /run/libhook, as nobody would make them: an answer, and never a traceback."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from cases import NIC
from generated import generated
from hypothesis import strategies as st
from scenario import Host, guest
from xml_making import documents

from libhook.effects import notes
from libhook.errors import BadInput
from libhook.facts.address import PciAddress
from libhook.facts.entry import Held, Process
from libhook.facts.event import OPERATIONS
from libhook.simulation import store
from libhook.simulation.build import scratch
from libhook.simulation.guests import Guest
from libhook.simulation.hosts import nic
from libhook.story.session import make_state

UUID = Guest().uuid
GOOD = guest(NIC).xml(1)
_ME = Process(os.getpid(), 1)
_words = st.one_of(
    st.sampled_from([*OPERATIONS, "resume", "-", "", "begin", "end", "--help", "win11", "../../x"]),
    st.binary(max_size=12).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
)
_operations = st.sampled_from(list(OPERATIONS))
_calls = st.one_of(
    st.tuples(_words, _operations, _words, _words), st.lists(_words, max_size=6).map(tuple), st.just(("win11", "start"))
)
_contents = st.one_of(documents(), st.binary(max_size=40), st.just(GOOD), st.just(GOOD[: len(GOOD) // 2]))


def _host() -> Iterator[Host]:
    root = scratch()
    yield Host(root, nic())
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """One for all calls: what one leaves behind, the next one meets."""
    yield from _host()


@pytest.fixture(scope="module")
def quiet_host() -> Iterator[Host]:
    """One on which nobody holds anything, for those who write into its state behind libhook's back."""
    yield from _host()


def _called(host: Host, arguments: tuple[str, ...], document: bytes) -> None:
    before = len(store.lines(f"{host.root}/var/log/libhook.jsonl"))
    outcome = host.call(arguments, document)
    operation = OPERATIONS.get(arguments[1]) if len(arguments) == 4 else None
    allowed = {2} if len(arguments) != 4 else {0, 1} if operation and operation.may_veto else {0}
    assert outcome.code in allowed
    assert len(outcome.stderr) == (outcome.code != 0)
    assert all(line.isprintable() for line in outcome.stderr)
    for entry in store.lines(f"{host.root}/var/log/libhook.jsonl")[before:]:
        assert all(value.isprintable() for value in entry.values() if isinstance(value, str))
        assert "itself failed" not in str(entry)


@generated("arguments", _calls, _contents)
def test_any_call_is_answered(host: Host, arguments: tuple[str, ...], document: bytes) -> None:
    """With an exit code that the operation may have, and at most one line, which is printable."""
    _called(host, arguments, document)


def _read_everything(host: Host) -> None:
    address = PciAddress.parse(NIC)
    for read in (
        lambda: host.state.load(UUID),
        lambda: host.state.claims([address]),
        lambda: notes.home(host.state.machine, address, _ME),
        host.state.in_flight,
        host.state.uuids,
    ):
        with suppress(BadInput):
            read()


@generated("state", st.sampled_from([f"domains/{UUID}.json", f"claims/{NIC}", f"homes/{NIC}"]), st.binary(max_size=60))
def test_any_bytes_in_a_file_of_the_state_are_read_or_refused(quiet_host: Host, name: str, content: bytes) -> None:
    """Nothing but BadInput is raised, whoever wrote it."""
    make_state(quiet_host.machine)
    path = Path(quiet_host.machine.state, name)
    path.write_bytes(content)
    _read_everything(quiet_host)
    path.unlink()


def test_a_damaged_entry_is_the_entry_or_refused(quiet_host: Host) -> None:
    """A byte replaced, inserted or cut anywhere in an entry that is libhook's own."""
    quiet_host.begin(guest(NIC))
    path = Path(quiet_host.machine.state, "domains", f"{UUID}.json")
    good = path.read_bytes()

    @generated("state", st.integers(0, len(good)), st.integers(0, 3), st.binary(max_size=3))
    def damage(start: int, length: int, more: bytes) -> None:
        path.write_bytes(good[:start] + more + good[start + length :])
        with suppress(BadInput):
            assert isinstance(quiet_host.state.load(UUID), Held | None)
        _read_everything(quiet_host)

    damage()
    path.write_bytes(good)
    assert quiet_host.event(guest(NIC), "release", "shutdown").code == 0
    assert quiet_host.changed == []
