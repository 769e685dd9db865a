# SPDX-License-Identifier: LGPL-2.1-or-later
"""A bug in libhook, or a part of Python that is missing: a start is refused in one line, and nothing else is harmed."""

import sys

import pytest
from aftermath import recover
from cases import NIC
from scenario import Host, guest

from libhook import xml
from libhook.simulation.hosts import nic
from libhook.story.session import Session
from libhook.testing import Outcome

WIN11 = guest(NIC)
GIVEN, BACK = f"start {NIC} success", f"stop {NIC} success"


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A host with one card, and a guest that wants it."""
    return Host(root, nic())


def _bug(*_: object) -> None:
    raise RuntimeError("a\nbug")


def _hit_a_bug(
    host: Host, monkeypatch: pytest.MonkeyPatch, operation: str, extra: str = "-", where: str = "log_plan"
) -> Outcome:
    """One event that runs into a bug: just after the plan was made, or ``where`` else."""
    with monkeypatch.context() as patched:
        patched.setattr(Session, where, _bug)
        outcome = host.event(WIN11, operation, extra)
    (entry,) = outcome.logged("failed")
    assert entry["reason"] == (
        f'libhook itself failed at {operation}: RuntimeError: "a\\nbug": run install.sh again, and report it'
    )
    assert outcome.stderr == ((entry["reason"],) if outcome.code else ())
    return outcome


@pytest.mark.parametrize(
    ("operation", "where", "driver"),
    [("prepare", "log_plan", "e1000e"), ("prepare", "_logged", "vfio-pci"), ("start", "log_plan", "vfio-pci")],
    ids=["before it is taken", "when it is taken", "when it is ready"],
)
def test_a_bug_refuses_a_start_and_no_device_stays_taken(
    host: Host, monkeypatch: pytest.MonkeyPatch, operation: str, where: str, driver: str
) -> None:
    """It is said in one line, and recorded once; the guest's end gives back what it had by then."""
    if operation == "start":
        host.event(WIN11, "prepare")
    assert _hit_a_bug(host, monkeypatch, operation, where=where).code == 1
    assert host.driver(NIC) == driver
    host.event(WIN11, "release", "failed")
    assert host.records == [f"start {NIC} failed"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("operation", ["started", "reconnect"])
def test_a_bug_does_not_stop_a_guest_that_runs(host: Host, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """It keeps its device, and in the end everything is recorded."""
    for name in ("prepare", "start", "started")[: 2 if operation == "started" else 3]:
        host.event(WIN11, name)
    assert _hit_a_bug(host, monkeypatch, operation).code == 0
    assert host.driver(NIC) == "vfio-pci"
    host.event(WIN11, "release", "shutdown")
    assert host.records == [GIVEN, BACK]
    assert (host.changed, host.leftovers) == ([], [])


def test_what_a_bug_kept_at_the_end_is_given_back_later(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's end is no failure for libvirt; the journal entry stays, and recover does what is left to do."""
    host.begin(WIN11)
    assert _hit_a_bug(host, monkeypatch, "release", "shutdown").code == 0
    assert host.driver(NIC) == "vfio-pci"
    assert recover(host) == "win11: given back\n"
    assert host.trail == [GIVEN, BACK]
    assert (host.changed, host.leftovers) == ([], [])


def _break_lxml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    monkeypatch.delitem(sys.modules, "libhook.xml.domxml", raising=False)
    monkeypatch.delattr(xml, "domxml", raising=False)


@pytest.mark.parametrize("operation", ["prepare", "start"])
def test_without_lxml_a_start_is_refused_by_its_name(
    host: Host, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Nothing is touched, as nobody can say which devices the guest has."""
    _break_lxml(monkeypatch)
    refused = host.event(WIN11, operation)
    assert refused.code == 1
    assert refused.line.startswith(f'libhook itself failed at {operation}: ModuleNotFoundError: "import of lxml ')
    assert refused.line.endswith(": run install.sh again")
    assert (refused.changed, host.leftovers) == ((), [])


def test_without_lxml_a_guest_runs_on_and_ends(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its journal entry says what to give back, and the end also records the beginning."""
    for operation in ("prepare", "start"):
        host.event(WIN11, operation)
    _break_lxml(monkeypatch)
    for operation in ("started", "reconnect"):
        outcome = host.event(WIN11, operation)
        assert (outcome.code, outcome.stderr, len(outcome.logged("failed"))) == (0, (), 1)
    host.event(WIN11, "release", "shutdown")
    assert host.records == [GIVEN, BACK]
    assert (host.changed, host.leftovers) == ([], [])
