# SPDX-License-Identifier: LGPL-2.1-or-later
"""One cause of several refusals is said once."""

import pytest
from generated import generated
from hypothesis import strategies as st

from libhook.facts.joined import joined, said_once
from libhook.facts.plan import Refusal, Warn
from libhook.story.taking import refused

A, B, C = (f"0000:03:00.{function}" for function in range(3))
OFF = "cannot be handed over, because the IOMMU is off"


def _of(address: str, rest: str, remedy: str = "do it") -> Refusal:
    return Refusal(f"pci {address}", f"{address}{rest}", remedy)


@pytest.mark.parametrize(
    ("refusals", "line"),
    [
        ([_of(A, f" {OFF}")], f"{A} {OFF}: do it"),
        ([_of(A, f" {OFF}"), _of(B, f" {OFF}"), _of(C, f" {OFF}")], f"{A}, {B} and {C} {OFF}: do it"),
        ([_of(A, " is gone"), _of(B, " is gone")], f"{A} and {B} are gone: do it"),
        (
            [_of(A, f" shares IOMMU group 1 with {C}"), _of(B, f" shares IOMMU group 1 with {C}")],
            f"{A} and {B} share IOMMU group 1 with {C}: do it",
        ),
        ([_of(A, ": no"), _of(B, ": no")], f"{A} and {B}: no: do it"),
        (
            [_of(A, " is open in X (pid 7, /dev/dri/card0)"), _of(B, " is open in X (pid 7, /dev/dri/card1)")],
            f"{A} and {B} are open in X (pid 7): do it",
        ),
        (
            [_of(A, " is open in X (pid 7, /dev/vfio/1)"), _of(B, " is open in X (pid 7, /dev/vfio/1)")],
            f"{A} and {B} are open in X (pid 7, /dev/vfio/1): do it",
        ),
        (
            [_of(A, " is open in X (pid 7, /dev/a)"), _of(B, " is open in X (pid 8, /dev/b)")],
            f"{A} is open in X (pid 7, /dev/a); and {B} is open in X (pid 8, /dev/b): do it",
        ),
        (
            [_of(A, " is gone"), _of(B, " is gone", "or not")],
            f"{A} is gone; {B} is gone: plan says what to do about each; about the first: do it",
        ),
        ([Refusal(f"pci {one}", "the lock is not free", "wait") for one in (A, B)], "the lock is not free: wait"),
        (
            [Refusal("", "a", "x"), Refusal("", "b", "y"), Refusal("", "c", "x")],
            "a; and c; b: plan says what to do about each; about the first: x",
        ),
    ],
)
def test_one_cause_is_said_once(refusals: list[Refusal], line: str) -> None:
    """With all its devices; and of several causes with one remedy the remedy is said once."""
    assert refused(refusals, "plan").line == line


def test_more_causes_than_three_are_counted() -> None:
    """Of many devices with one cause three are named."""
    many = [Refusal(f"usb 001.{at:03}", f"001.{at:03} is gone", "do it") for at in range(9)]
    assert refused(many, "plan").line == "001.000, 001.001, 001.002 and 6 more are gone: do it"
    others = [Refusal("", str(at), f"do {at}") for at in range(5)]
    assert refused(others, "plan").line == "0; 1; 2; and 2 more: plan says what to do about each; about the first: do 0"


def test_the_plan_has_the_joined_ones_where_the_first_stood() -> None:
    """All else stays in its place."""
    first, last = Warn("first"), Warn("last")
    said = list(said_once([first, _of(A, " is gone"), last, _of(B, " is gone")]))
    assert said == [first, Refusal(f"pci {A}", f"{A} and {B} are gone", "do it"), last]


_TEXTS = st.lists(st.sampled_from(["(pid ", ", /dev/", ")", " is ", A, B, " x"]), max_size=6).map("".join)


@generated("names", st.lists(st.builds(Refusal, st.sampled_from([f"pci {A}", f"pci {B}", ""]), _TEXTS, _TEXTS)))
def test_no_device_and_no_remedy_is_lost(refusals: list[Refusal]) -> None:
    """Whatever the texts hold, which others choose in part."""
    found = joined(refusals)
    assert {one.remedy for one in found} == {one.remedy for one in refusals}
    assert len(found) <= len(refusals)
    for one in refusals:
        address = one.device.rpartition(" ")[2]
        if address and one.reason.startswith(f"{address} "):
            assert any(address in other.reason for other in found)
