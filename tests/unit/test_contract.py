# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a handler may answer at each operation, and what becomes of an answer that has no place there. No host."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from toys import Toy, Toys, asked

from libhook.effects.pci import probe
from libhook.facts.address import PciAddress
from libhook.facts.config import Config
from libhook.facts.domain import Domain, HostDevice
from libhook.facts.entry import Held, Process
from libhook.facts.event import ATTACH, DETACH, OPERATIONS, Event, Operation
from libhook.facts.host import NOTHING
from libhook.facts.plan import Condition, Fault, Plan, Record, Refusal, Verdict, Warn, describe
from libhook.facts.situation import Situation
from libhook.handlers import registry

NIC = PciAddress.parse("0000:01:00.0")
CARD = HostDevice("pci", "hostdev", False, str(NIC), NIC)
GUEST = Domain("win11", "c7a5fdbd-edaf-9455-926a-d65c16db1809", "kvm", (CARD,))
KEY = CARD.key
ACTING = [*(operation for operation in OPERATIONS.values() if operation.acts), ATTACH, DETACH]
REFUSAL = Refusal(KEY, "not at night", "try by day")


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    Toys(monkeypatch)


def _ask(monkeypatch: pytest.MonkeyPatch, operation: Operation, *said: object, held: Held | None = None) -> Plan:
    """The plan where one handler says this."""

    def handler(_situation: Situation) -> Iterator[Verdict]:
        yield from said  # type: ignore[misc] # whatever a handler may say

    asked(monkeypatch, operation.name, handler)
    return registry.plan_for(Situation(Event("win11", operation, "-"), GUEST, NOTHING, held, Config()))


@pytest.mark.parametrize("operation", ACTING, ids=lambda operation: operation.name)
@pytest.mark.parametrize(
    ("verdict", "column"),
    [
        (Warn("cold outside"), None),
        (REFUSAL, "may_veto"),
        (Condition("it is day", REFUSAL), "may_veto"),
        (Toy("one"), "takes"),
        (Record(KEY, "text", True, "start"), "start"),
        (Record(KEY, "text", True, "stop"), "stop"),
        (Record(KEY, "text", True, "attach"), "attach"),
        (Record(KEY, "text", True, "detach"), "detach"),
        (probe(NIC), "never"),
        ("a letter a line", "never"),
        (None, "never"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_the_table_says_what_is_in_place(
    monkeypatch: pytest.MonkeyPatch, operation: Operation, verdict: object, column: str | None
) -> None:
    """What has no place there is a fault by the handler's name: a refusal where one is possible, else dropped."""
    may = {"may_veto": operation.may_veto, "takes": operation.takes, "never": False, None: True}
    plan = _ask(monkeypatch, operation, verdict)
    if may.get(column, column in operation.records):
        assert plan.faults == ()
        assert not any("testing.handler" in refusal.reason for refusal in plan.refusals)
    elif operation.may_veto:
        (refusal,) = plan.refusals
        assert refusal.reason.startswith("the handler testing.handler ")
        assert [record.success for record in plan.records] == [False]
        assert plan.actions == ()
    else:
        (fault,) = plan.verdicts
        assert isinstance(fault, Fault)
        assert fault.handler == "testing.handler"


@pytest.mark.parametrize("operation", ACTING, ids=lambda operation: operation.name)
def test_a_handler_that_raises_keeps_no_other_from_answering(
    monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    """Nor what it said before, but where a start can be refused: there it is."""

    def broken(_situation: Situation) -> Iterator[Warn]:
        yield Warn("said before")
        raise ZeroDivisionError("by\nnought")

    def second(_situation: Situation) -> Iterator[Warn]:
        yield Warn("said by the next")

    def numb(_situation: Situation) -> int:
        return 7

    asked(monkeypatch, operation.name, broken, numb, second)
    plan = registry.plan_for(Situation(Event("win11", operation, "-"), GUEST, NOTHING, None, Config()))
    assert [warning.message for warning in plan.warnings] == ["said before", "said by the next"]
    one, other = plan.refusals if operation.may_veto else plan.faults
    lines = [line for what in (one, other) for line in what.describe()]
    assert f'the handler testing.broken failed: ZeroDivisionError: "by\\nnought" ({__file__}, line ' in lines[0]
    assert "the handler testing.numb failed: TypeError: \"'int' object is not iterable\"" in lines[1]


@pytest.mark.parametrize("name", sorted({name for names in registry.HANDLERS.values() for name in names}))
def test_each_handler_of_the_list_is_there(name: str) -> None:
    """It is found by this name, and its file has it."""
    handler = registry.find(name)
    assert f"{handler.__module__}.{handler.__name__}" == f"libhook.handlers.{name}"


@pytest.mark.parametrize("operation", ACTING, ids=lambda operation: operation.name)
def test_a_handler_whose_file_is_broken_keeps_no_other_from_answering(
    monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    """As one that raises."""

    def second(_situation: Situation) -> Iterator[Warn]:
        yield Warn("said by the next")

    asked(monkeypatch, operation.name, second)
    names = ("broken.handler", "testing.absent", *registry.HANDLERS[operation.name])
    monkeypatch.setitem(registry.HANDLERS, operation.name, names)
    plan = registry.plan_for(Situation(Event("win11", operation, "-"), GUEST, NOTHING, None, Config()))
    assert [warning.message for warning in plan.warnings] == ["said by the next"]
    one, other = (str(fault) for fault in (plan.refusals if operation.may_veto else plan.faults))
    assert "No module named 'libhook.handlers.broken'" in one.replace("\\'", "'")
    assert "has no attribute 'absent'" in other.replace("\\'", "'")


@pytest.mark.parametrize("operation", [OPERATIONS["prepare"], OPERATIONS["release"]], ids=["prepare", "release"])
def test_a_device_is_no_verdict(monkeypatch: pytest.MonkeyPatch, operation: Operation) -> None:
    """It has a kind and a key, as an action has."""
    plan = _ask(monkeypatch, operation, GUEST.devices[0])
    faults = [*plan.refusals, *plan.faults]
    assert ["answers with a HostDevice, which is not a verdict" in str(fault) for fault in faults] == [True]


def _plan(monkeypatch: pytest.MonkeyPatch, *said: object, held: Held | None = None) -> list[str]:
    return list(describe(_ask(monkeypatch, OPERATIONS["prepare"], *said, held=held).verdicts))


def test_an_action_comes_after_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order given otherwise; what nothing provides is not waited for."""
    last = Toy("last", needs=("b is there", "nobody provides this"))
    middle = Toy("middle", needs=("a is there",), provides=("b is there",))
    first = Toy("first", provides=("a is there",))
    assert _plan(monkeypatch, last, Toy("free"), middle, Warn("said"), first) == [
        "first", "middle", "last", "free", "warning: said"
    ]  # fmt: skip


def test_actions_that_wait_for_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done then."""
    one, other = Toy("one", needs=("b",), provides=("a",)), Toy("other", needs=("a",), provides=("b",))
    refused, _ = _plan(monkeypatch, one, other)
    assert refused.startswith("refuse: one waits for another action, which waits for it: ")


def test_nothing_is_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two actions on one thing could not both be undone: the second is its handler's fault."""
    refused, _ = _plan(monkeypatch, Toy("one"), Toy("one"))
    assert refused.startswith("refuse: the handler testing.handler acts on toy one, but another handler already does: ")


CONDITION = Condition("it is day", REFUSAL)


def test_a_condition_that_nothing_provides_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is done."""
    refused, record = _plan(monkeypatch, Toy("one", provides=("it is cold",)), CONDITION)
    assert refused == "refuse: not at night: try by day"
    assert record.endswith("res=failed")


def test_a_condition_is_looked_at_after_what_provides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the handlers said it; the dry run says after what."""
    wait = Toy("wait until morning", provides=("it is day",))
    assert _plan(monkeypatch, CONDITION, Toy("one"), wait) == [
        "one",
        "wait until morning",
        "refuse unless it is day: not at night (checked after: wait until morning): try by day",
    ]


def test_what_two_actions_provide_is_there_after_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a condition, and for an action that needs it."""
    first, second = (Toy(name, provides=("it is day",)) for name in ("first", "second"))
    needs = Toy("last", needs=("it is day",))
    plan = _plan(monkeypatch, Condition("it is day", REFUSAL), first, needs, second)
    assert [line.partition(":")[0] for line in plan] == ["first", "second", "refuse unless it is day", "last"]


def test_what_was_provided_and_is_not_there_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its provider is journalled by then, so it is not waited for again."""
    wait = Toy("wait until morning", provides=("it is day",))
    held = Held(GUEST.uuid, "win11", "kvm", "preparing", "b", Process(1, 1), actions=(wait,))
    refused, _ = _plan(monkeypatch, CONDITION, held=held)
    assert refused == "refuse: not at night: try by day"


@pytest.mark.parametrize("then", [Refusal(KEY, "too heavy", "eat less"), Condition("it is light", REFUSAL)])
def test_what_speaks_against_it_then_counts(monkeypatch: pytest.MonkeyPatch, then: Refusal | Condition) -> None:
    """A state that is provided removes one complaint, not the next."""
    wait = Toy("wait until morning", provides=("it is day",))
    plan = _ask(monkeypatch, OPERATIONS["prepare"], wait, CONDITION._replace(then=then))
    assert len(plan.refusals) == 1


def test_all_up_to_what_a_condition_waits_for_is_done_first() -> None:
    """In the plan's order: what comes before it may fail, and costs less."""
    other, far = Toy("other"), Toy("far", provides=("b",))
    near = Toy("near", needs=("b",), provides=("it is day",))
    assert Plan((other, far, near, CONDITION, Toy("more"))).stage == (other, far, near)
    assert Plan((far, near)).stage == (far, near)
    assert Plan((far, CONDITION)).stage == ()


def test_the_document_has_the_table() -> None:
    """docs/handlers.md says of each operation what the code says."""
    text = (Path(__file__).parents[2] / "docs/handlers.md").read_text()
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (yes)? ?\| (yes)? ?\|[^|]*\| (.*) \|$", text, flags=re.M)
    told = {
        (name, bool(refuses), bool(takes), *re.findall(r"`(\w+)`", records)) for name, refuses, takes, records in rows
    }
    assert told == {(one.name, one.may_veto, one.takes, *one.records) for one in ACTING}
