# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guests share: it is what all who live want together, and in the end what it was; whatever happens between."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import hanging
import overdue
import pytest
from scenario import reap
from sharing import BASE, PATH, UUIDS, Sharing, failed, moved, together, writes

from libhook.children.child import Deadline
from libhook.children.tracks import run
from libhook.errors import KERNEL_LOG, LibhookError
from libhook.facts.config import Config
from libhook.facts.shared import Shared, Value
from libhook.kinds import claims
from libhook.kinds.kind import Failure, Work
from libhook.kinds.resource import equal
from libhook.simulation.faults import Fault, heal, inject, vanish

if TYPE_CHECKING:
    from libhook.children.tracks import Track


@pytest.mark.parametrize("ends", list(itertools.permutations("abc")), ids="".join)
def test_whoever_ends_first_undoes_for_nobody_else(root: str, ends: tuple[str, ...]) -> None:
    """Three guests with three wants: after each end it is what the others want, and what it was after the last."""
    sharing = Sharing(root)
    assert [(sharing.begin(name), sharing.value()) for name in "abc"] == [(None, "16"), (None, "32"), (None, "32")]
    living = {"a", "b", "c"}
    for name in ends:
        assert sharing.end(name) is None
        living.remove(name)
        assert (sharing.value(), sharing.claimants()) == (sharing.expected(living), living)
    assert sharing.wrong_in_the_end() == []


def test_what_is_as_wanted_is_not_written(root: str) -> None:
    """Neither for the guest that wants what is there, nor at its end, nor by who comes to settle."""
    sharing = Sharing(root, wants={"a": BASE, "b": "32", "c": "24"})
    assert (sharing.begin("a"), sharing.begin("b"), sharing.begin("c")) == (None, None, None)
    before = sharing.file.stat().st_ino
    assert (sharing.settle(), sharing.settle()) == (None, None)
    assert sharing.file.stat().st_ino == before
    assert (sharing.end("c"), sharing.end("a"), sharing.end("b"), sharing.end("b")) == (None, None, None, None)
    assert writes(sharing) == ["32", BASE]
    assert sharing.wrong_in_the_end() == []


def test_a_second_guest_that_wants_another_value_is_refused(root: str) -> None:
    """With the name of the first; nothing is written, and the first keeps what it has."""
    sharing = Sharing(root, equal, {"a": "16", "b": "32", "c": "16"})
    assert (sharing.begin("a"), sharing.begin("c")) == (None, None)
    refused = failed(sharing.begin("b"))
    assert refused.reason == f"the guest a ({UUIDS['a']}) wants the toy to be 16, and this one 32"
    assert (sharing.value(), sharing.claimants(), writes(sharing)) == ("16", {"a", "c"}, ["16"])
    Path(sharing.host.machine.state, "domains", f"{UUIDS['a']}.json").write_text("broken")
    with mock.patch.object(Sharing, "alive", return_value=True):
        assert failed(sharing.begin("b")).reason.startswith(f"the guest {UUIDS['a']} wants")
    assert (sharing.end("a"), sharing.end("c")) == (None, None)
    assert sharing.wrong_in_the_end() == []


def test_the_claim_of_a_guest_without_an_entry_counts_no_more(root: str) -> None:
    """Somebody removed its entry: the next guest, or who settles, drops the claim; the base is still the first one."""
    sharing = Sharing(root)
    sharing.begin("b")
    sharing.host.state.forget(UUIDS["b"])
    assert sharing.begin("a") is None
    assert (sharing.value(), sharing.claimants()) == ("16", {"a"})
    sharing.host.state.forget(UUIDS["a"])
    assert sharing.settle() is None
    assert sharing.wrong_in_the_end() == []


def test_a_change_by_somebody_else_stays_and_is_said(root: str) -> None:
    """It is neither undone while others have a claim nor at the end."""
    sharing = Sharing(root)
    sharing.begin("a")
    sharing.begin("b")
    sharing.tamper("99")
    said = 'the toy was changed to "99" by somebody else, and stays so'
    assert (sharing.settle(), sharing.end("b"), sharing.claimants()) == (said, said, {"a"})
    assert (sharing.end("a"), sharing.value()) == (said, "99")
    assert sharing.host.leftovers == []


def test_a_change_by_somebody_else_is_what_comes_back(root: str) -> None:
    """A guest that starts after it has it changed again: what it found is the base from then on."""
    sharing = Sharing(root)
    sharing.begin("b")
    sharing.tamper("20")
    assert sharing.begin("a") is None
    assert sharing.value() == "32"
    assert (sharing.end("b"), sharing.value(), sharing.end("a"), sharing.value()) == (None, "20", None, "20")
    assert sharing.host.leftovers == []


@pytest.mark.parametrize("by_hand", [BASE, "16"])
def test_a_change_to_what_it_shall_be_needs_no_word(root: str, by_hand: str) -> None:
    """Somebody has done by hand what is due: what it was, or what the guest that is left wants."""
    sharing = Sharing(root)
    sharing.begin("b")
    if by_hand == "16":
        sharing.begin("a")
    sharing.tamper(by_hand)
    assert sharing.end("b") is None
    assert sharing.value() == by_hand
    assert sharing.end("a") is None
    assert sharing.wrong_in_the_end() == []


@pytest.mark.parametrize("ends", ["ab", "ba"])
def test_of_an_amount_what_somebody_else_added_stays(root: str, ends: str) -> None:
    """The arithmetic tells it from ours: whoever ends first, what is left in the end is the base and what he added."""
    sharing = Sharing(root, together)
    sharing.begin("a")
    sharing.tamper("29")  # 5 more
    assert (sharing.begin("b"), sharing.value()) == (None, str(8 + 5 + 16 + 32))
    sharing.tamper("58")  # 3 less
    for name in ends:
        assert sharing.end(name) is None
    assert (sharing.value(), sharing.host.leftovers) == ("10", [])
    assert moved("8", "24", "29") == "13"


def test_what_is_not_there_refuses_the_guest(root: str) -> None:
    """With the kernel's answer; nothing is left behind."""
    sharing = Sharing(root)
    vanish(sharing.host.machine.kernel, "0000:01:00.0")  # type: ignore[arg-type]
    refused = failed(sharing.begin("a"))
    assert refused.reason == 'the toy is nothing instead of "16" (No such file or directory)'
    assert sharing.host.leftovers == []


def test_what_goes_while_it_is_claimed_is_not_put_back(root: str) -> None:
    """Nor does it keep the guest's entry: there is nothing to be put back to."""
    sharing = Sharing(root)
    sharing.begin("a")
    vanish(sharing.host.machine.kernel, "0000:01:00.0")  # type: ignore[arg-type]
    assert sharing.end("a") == "the toy was changed to nothing by somebody else, and stays so"
    assert sharing.host.leftovers == []


def test_what_comes_after_the_base_was_taken_is_not_taken_away(root: str) -> None:
    """It was not there, and was claimed with success all the same: there is nothing that it could be made again."""
    sharing = Sharing(root)
    sharing.begin("a")
    shared = Shared.from_json(json.loads(sharing.file.read_text()))
    sharing.file.write_text(json.dumps(shared._replace(base=None).to_json()))
    assert (sharing.end("a"), sharing.value(), sharing.host.leftovers) == (None, "16", [])


@pytest.mark.parametrize("before", [(), ("b",)])
@pytest.mark.parametrize("fault", ["error", "ignored", "clamped"])
def test_a_write_that_does_not_take_refuses_the_guest(root: str, fault: str, before: tuple[str, ...]) -> None:
    """It fails, does nothing, or the kernel makes something else of it: the claim is gone, and so is what it did."""
    sharing = Sharing(root, together)
    for name in before:
        sharing.begin(name)
    was, target = sharing.value(), sharing.expected({*before, "a"})
    inject(root, _FAULTS[fault]._replace(call=f"write {PATH} {target}"))
    refused = failed(sharing.acquire("a"))
    found = "50" if fault == "clamped" else was
    why = " (Device or resource busy)" if fault == "error" else ""
    assert refused == Failure(f'the toy is "{found}" instead of "{target}"{why}', KERNEL_LOG)
    assert (sharing.value(), sharing.claimants()) == (was, set(before))
    heal(root)
    for name in (*before, "a"):
        assert sharing.end(name) is None
    assert sharing.wrong_in_the_end() == []


_FAULTS = {
    "error": Fault("", error="EBUSY"),
    "ignored": Fault("", ignored=True),
    "clamped": Fault("", after=(("write", PATH, "50"),)),
}


@pytest.mark.parametrize("fault", ["error", "ignored", "clamped"])
def test_a_give_back_that_does_not_take_is_tried_again(root: str, fault: str) -> None:
    """The guest's entry stays until it does; no other guest takes what is there for the base."""
    sharing = Sharing(root)
    sharing.begin("a")
    inject(root, _FAULTS[fault]._replace(call=f"write {PATH} {BASE}", nth=0))
    failed(sharing.end("a"))
    assert UUIDS["a"] in sharing.host.state.uuids()
    assert sharing.claimants() == set()
    sharing.host.state.forget(UUIDS["a"])
    assert (sharing.begin("b"), sharing.value()) == (None, "32")
    failed(sharing.end("b"))
    heal(root)
    assert sharing.recover({"b"}) == []
    assert sharing.wrong_in_the_end() == []


def test_a_write_that_hangs_is_left_alone_until_it_comes_back(root: str) -> None:
    """The guest is refused in time; nobody touches the thing meanwhile; then it is given back."""
    sharing = Sharing(root)
    inject(root, Fault(f"write {PATH} 16", before=hanging.HANG))
    hanging.late(root)
    late = failed(sharing.begin("a"))
    assert late == Failure("the toy does not answer in time", claims._WEDGED)
    quiet = "the toy does not answer: it is still being changed"
    assert [failed(one).reason for one in (sharing.begin("b"), sharing.settle())] == [quiet, quiet]
    assert (sharing.value(), UUIDS["a"] in sharing.host.state.uuids()) == (BASE, True)
    hanging.let_go(root)
    assert reap(60)
    assert sharing.value() == "16"
    assert sharing.recover({"a", "b"}) == []
    assert sharing.wrong_in_the_end() == []


def test_no_time_left_is_said_as_that(root: str) -> None:
    """The write was not even begun."""
    sharing = Sharing(root)
    sharing.seconds = 0
    assert failed(sharing.begin("a")).reason == "the deadline passed before the toy was reached"
    sharing.seconds = 60
    assert (sharing.recover({"a"}), writes(sharing)) == ([], [])
    assert sharing.wrong_in_the_end() == []


def test_claims_that_contradict_each_other_are_not_guessed_at(root: str) -> None:
    """As by hand: who ends has it said, and his entry stays."""
    sharing = Sharing(root, equal, {"a": "16", "b": "16", "c": "16"})
    for name in "abc":
        sharing.begin(name)
    shared = json.loads(sharing.file.read_text())
    shared["claims"][UUIDS["b"]] = "32"
    sharing.file.write_text(json.dumps(shared))
    assert failed(sharing.end("a")).reason == "the claims to the toy contradict each other"
    assert sharing.value() == "16"


def test_a_value_that_cannot_be_read_changes_nothing(root: str) -> None:
    """Whatever is due, it is tried again later."""
    sharing = Sharing(root)
    sharing.begin("a")

    def unreadable() -> Track[Value]:
        yield from ()
        raise LibhookError("the toy cannot be read", "mend it")

    good, sharing.resource = sharing.resource, sharing.resource._replace(read=unreadable)
    for result in (sharing.end("a"), sharing.settle(), sharing.begin("b")):
        assert result == Failure("the toy cannot be read", "mend it")
    assert sharing.value() == "16"
    sharing.resource = good
    assert sharing.recover({"a", "b"}) == []
    assert sharing.wrong_in_the_end() == []


def test_several_things_are_locked_in_one_order(root: str) -> None:
    """So that nobody waits in a circle; and while one is locked nobody else is at work on it."""
    sharing = Sharing(root)
    other = sharing.resource._replace(name="another")
    work = Work(sharing.host.machine, sharing.host.state, Deadline.after(60), Config(), UUIDS["a"])
    with (
        claims.locked(work, [sharing.resource, other]),
        pytest.raises(LibhookError, match="shared-another is not free"),
    ):
        sharing.host.state.locked([other.lock], overdue.soon()).__enter__()
    assert sharing.host.leftovers == []
    assert run([claims.settle(work, other, sharing.alive)], work.deadline) == [None]
