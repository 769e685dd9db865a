# SPDX-License-Identifier: LGPL-2.1-or-later
"""Actions of any kind in a guest's life: conditions that are looked at later, failures in between, the way back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from cases import DISK, NIC
from scenario import Host, guest
from toys import Toy, Toys, asked

from libhook.children.child import Deadline
from libhook.errors import LibhookError
from libhook.facts.config import Config
from libhook.facts.plan import Refusal, Verdict
from libhook.facts.situation import Situation
from libhook.kinds import registry as kinds
from libhook.kinds.kind import Outcome, Work
from libhook.simulation import processes
from libhook.simulation.hosts import workstation
from libhook.story.session import make_state

if TYPE_CHECKING:
    from libhook.facts.situation import Handler


SMARTD = 2000
STOP = Toy("stop smartd", provides=(f"{DISK} is free",))
"""What the disk waits for."""


@pytest.fixture(name="host")
def _host(root: str) -> Host:
    """A process has the guest's disk open."""
    host = Host(root, workstation(), "holder_wait = 0.2\n")
    processes.add(root, SMARTD, "smartd")
    processes.open_file(root, SMARTD, "/dev/nvme0n1")
    return host


def _also(monkeypatch: pytest.MonkeyPatch, operation: str, *said: Verdict) -> None:
    """A handler more, which wants this until it is journalled."""

    def wants(situation: Situation) -> Iterator[Verdict]:
        done = {action.key for action in situation.held.actions} if situation.held else set()
        yield from (verdict for verdict in said if getattr(verdict, "key", "") not in done)

    _also_asks(monkeypatch, operation, wants)


def _also_asks(monkeypatch: pytest.MonkeyPatch, operation: str, handler: Handler) -> None:
    asked(monkeypatch, operation, handler, besides=True)


def _fail() -> None:
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def test_a_device_in_use_is_taken_once_an_action_has_freed_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same plan frees it; so it is looked at after that, and only then planned and taken. Undone in reverse."""
    toys = Toys(monkeypatch, {"stop smartd": lambda: processes.end(host.root, SMARTD)})
    _also(monkeypatch, "prepare", STOP)
    foretold = host.call(("win11", "prepare", "begin", "-"), guest(DISK, NIC).xml(1), dry_run=True)
    reason = f"{DISK} is in use by the host: it is open in smartd (pid {SMARTD}, /dev/nvme0n1)"
    end = f"stop what has it open first; to see what that belongs to, run: cat /proc/{SMARTD}/cgroup"
    unless = f"refuse unless {DISK} is free: {reason} (checked after: stop smartd): {end}"
    assert foretold.stderr[:2] == ("stop smartd", unless)
    assert (foretold.changed, toys.done) == ((), [])
    host.begin(guest(DISK, NIC))
    assert toys.done == ["stop smartd"]
    assert host.driver(DISK) == host.driver(NIC) == "vfio-pci"
    (held,) = host.outcomes[-1].journal.values()
    assert [action.key for action in held.actions] == ["toy stop smartd", f"pci {DISK}", f"pci {NIC}"]
    host.event(guest(DISK, NIC), "release", "shutdown")
    assert toys.done == ["stop smartd", "undo stop smartd"]
    assert host.driver(DISK) == "nvme"
    assert host.leftovers == []
    before = [line for line in host.outcomes[-1].plan if not line.startswith(" ")]
    assert before.index("undo stop smartd") > before.index(f"{DISK}: vfio-pci -> nvme (give back)")


def test_a_device_still_in_use_is_refused_and_all_is_undone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The action ran, and did not free it."""
    toys = Toys(monkeypatch)
    _also(monkeypatch, "prepare", STOP)
    outcome = host.event(guest(DISK, NIC), "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f"{DISK} is in use by the host: it is open in smartd (pid {SMARTD}")
    assert toys.done == ["stop smartd", "undo stop smartd"]
    assert outcome.writes == ()
    assert [record.split()[-1] for record in outcome.records] == ["res=failed"]
    assert [held.actions for held in outcome.journal.values()] == [()]


@pytest.mark.parametrize("order", ["first", "last"])
def test_an_action_that_fails_refuses_the_start_for_every_device(
    root: str, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """What was done before it is undone, what comes after it is not begun."""
    host = Host(root, workstation())
    needs = ("the toy is there",) if order == "last" else ()
    toys = Toys(monkeypatch, {"break": _fail})
    _also(monkeypatch, "prepare", Toy("play", provides=needs), Toy("break", needs=needs))
    outcome = host.event(guest(DISK, NIC), "prepare")
    assert (outcome.code, outcome.line) == (1, "break failed (Device or resource busy): mend it")
    assert toys.done == ["play", "break", "undo play", "undo break"]
    assert outcome.writes == ()
    assert [record.split()[-1] for record in outcome.records] == ["res=failed", "res=failed"]
    host.event(guest(DISK, NIC), "release", "failed")
    assert host.records == [f"start {DISK} failed", f"start {NIC} failed"]
    assert host.leftovers == []


def test_what_cannot_be_undone_keeps_nothing_else(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The devices come back; what is left stays in the journal, and recover tries again."""
    host = Host(root, workstation())
    toys = Toys(monkeypatch, {"undo play": _fail})
    _also(monkeypatch, "prepare", Toy("play"))
    host.begin(guest(NIC))
    ended = host.event(guest(NIC), "release", "shutdown")
    assert host.driver(NIC) == "e1000e"
    assert ended.records[-1].endswith("res=success")
    (held,) = ended.journal.values()
    assert [action.key for action in held.actions] == ["toy play"]
    (entry,) = ended.logged("not given back")
    assert entry["reason"] == "undo play failed (Device or resource busy)"
    toys.does.clear()
    host.event(guest(NIC), "prepare")
    assert toys.done == ["play", "undo play", "undo play", "play"]


def _refuse(situation: Situation) -> Iterator[Verdict]:
    for device in situation.domain.devices or ():
        yield Refusal(device.key, "never", "no way")
    yield Refusal("", "never", "no way")


def _raise(_situation: Situation) -> Iterator[Verdict]:
    raise ZeroDivisionError


@pytest.mark.parametrize("handler", [_refuse, _raise])
@pytest.mark.parametrize("operation", ["started", "release", "reconnect"])
def test_no_handler_is_in_the_way_of_a_give_back(
    root: str, monkeypatch: pytest.MonkeyPatch, handler: Callable[[Situation], Iterator[Verdict]], operation: str
) -> None:
    """It is logged by name; the guest runs, its records are true, and its device comes back."""
    host = Host(root, workstation())
    _also_asks(monkeypatch, operation, handler)
    host.begin(guest(NIC))
    if operation == "reconnect":
        assert host.event(guest(NIC), "reconnect").code == 0
    assert host.event(guest(NIC), "release", "shutdown").code == 0
    assert host.driver(NIC) == "e1000e"
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    assert host.leftovers == []
    failed = [entry for outcome in host.outcomes for entry in outcome.logged("handler failed")]
    assert {entry["handler"] for entry in failed} == {f"testing.{handler.__name__}"}


class _Other(Toy):
    """Of another kind."""

    @property
    def kind(self) -> str:
        """See Action."""
        return "other"


def test_each_kind_has_its_own_time_but_not_more_than_its_most(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one kind takes is not missing to the next; the settings cannot give a kind more than its most."""
    given: list[float] = []

    def carry_out(work: Work, toys: Sequence[Toy]) -> list[Outcome]:
        given.append(work.deadline.at)
        return [Outcome(toy, None, 0.0) for toy in toys]

    Toys(monkeypatch)
    toy = kinds.KINDS["toy"]._replace(seconds=lambda config, _batch: config.write_deadline, carry_out=carry_out)
    monkeypatch.setitem(kinds.KINDS, "toy", toy)
    monkeypatch.setitem(kinds.KINDS, "other", toy._replace(name="other", max_seconds=60.0))
    machine = Host(root, workstation()).machine
    work = Work(machine, make_state(machine), Deadline.after(0), Config(write_deadline=900), guest(NIC).uuid)
    monkeypatch.setattr(Deadline, "after", Deadline)  # as if the clock stood at 0
    kinds.carry_out(work, [Toy("one"), _Other("two"), Toy("three")])
    assert given == [900, 60, 900]


def test_the_log_says_what_was_done_with_which_device(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the fields that an administrator looks for; of any other kind by what it acts on."""
    host = Host(root, workstation())
    Toys(monkeypatch, {"break": _fail})
    _also(monkeypatch, "prepare", Toy("play"))
    prepared = host.event(guest(NIC), "prepare")
    (moved,) = prepared.logged("moved")
    assert {name: moved[name] for name in ("device", "driver_before", "driver_after", "outcome")} == {
        "device": NIC,
        "driver_before": "e1000e",
        "driver_after": "vfio-pci",
        "outcome": "done",
    }
    assert [entry["action"] for entry in prepared.logged("done") if "toy" in entry["action"]] == ["toy play"]
    host.event(guest(NIC), "release", "failed")
    _also(monkeypatch, "prepare", Toy("break"))
    (failed,) = host.event(guest(NIC), "prepare").logged("not done")
    assert (failed["action"], failed["level"]) == ("toy break", "error")


class _Forgotten(Toy):
    """One that is never journalled, as the loading of a module."""

    @property
    def is_undone(self) -> bool:
        """See Action."""
        return False


def test_a_state_that_never_comes_is_waited_for_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider leaves no trace in the journal, and is asked for each time; the start must end all the same."""
    toys = Toys(monkeypatch)
    _also(monkeypatch, "prepare", _Forgotten(STOP.subject, provides=STOP.provides))
    outcome = host.event(guest(DISK), "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f"{DISK} is in use by the host: ")
    assert toys.done == ["stop smartd"]


def test_what_is_asked_for_again_is_journalled_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal entry with two actions on one thing could not be read, and nothing would come back."""
    Toys(monkeypatch, {"stop smartd": lambda: processes.end(host.root, SMARTD)})
    _also_asks(monkeypatch, "prepare", lambda _: iter((Toy("play"), STOP)))
    host.begin(guest(DISK))
    (held,) = host.outcomes[-1].journal.values()
    assert sorted(action.key for action in held.actions) == [f"pci {DISK}", "toy play", "toy stop smartd"]
    host.event(guest(DISK), "release", "shutdown")
    assert (host.driver(DISK), host.leftovers) == ("nvme", [])


def _raises(error: Exception, unless: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Something that fails, or only does so with actions that do not go back."""

    def fail(work: Work, *arguments: Any) -> Any:  # noqa: ANN401 - whatever it takes
        if unless and all(toy.back for toy in arguments[-1]):
            return unless(work, *arguments)
        raise error

    return fail


ERRORS = [OSError(errno.EIO, "Input/output error", "/sys/toys"), LibhookError("/sys/toys: Input/output error")]


@pytest.mark.parametrize("error", ERRORS, ids=["system", "ours"])
def test_a_kind_that_fails_as_a_whole_refuses_the_start(
    root: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """And what the kinds before it did is undone at once."""
    host = Host(root, workstation())
    Toys(monkeypatch)
    toy = kinds.KINDS["toy"]
    monkeypatch.setitem(kinds.KINDS, "toy", toy._replace(carry_out=_raises(error, toy.carry_out)))
    _also(monkeypatch, "prepare", Toy("play"))
    outcome = host.event(guest(NIC), "prepare")
    assert (outcome.code, outcome.line.split(": ", 1)[0]) == (1, "/sys/toys")
    assert host.driver(NIC) == "e1000e"
    assert [held.actions for held in outcome.journal.values()] == [()]


@pytest.mark.parametrize("error", ERRORS, ids=["system", "ours"])
@pytest.mark.parametrize("part", ["way_back", "carry_out"])
def test_a_kind_that_fails_as_a_whole_keeps_no_other_from_going_back(
    root: str, monkeypatch: pytest.MonkeyPatch, part: str, error: Exception
) -> None:
    """The device comes back and is recorded; what is left stays journalled for recover."""
    host = Host(root, workstation())
    toys = Toys(monkeypatch)
    _also(monkeypatch, "prepare", Toy("play"))
    host.begin(guest(NIC))
    toy = kinds.KINDS["toy"]
    broken = toy._replace(way_back=_raises(error)) if part == "way_back" else toy._replace(carry_out=_raises(error))
    monkeypatch.setitem(kinds.KINDS, "toy", broken)
    released = host.event(guest(NIC), "release", "shutdown")
    assert released.code == 0
    (entry,) = released.logged("not given back")
    assert "/sys/toys: Input/output error" in str(entry["reason"])
    assert host.driver(NIC) == "e1000e"
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]
    (held,) = released.journal.values()
    assert [action.key for action in held.actions] == ["toy play"]
    monkeypatch.setitem(kinds.KINDS, "toy", toy)
    host.event(guest(NIC), "release", "shutdown")
    assert (toys.done, host.leftovers) == (["play", "undo play"], [])
