# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C and SIGTERM: what they end, and what they wait for."""

import os
import signal
from contextlib import AbstractContextManager

import pytest

from libhook.errors import DeadlineExpired, Refused
from libhook.hotplug.interrupts import Interrupts

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_wait_ends(number: signal.Signals) -> None:
    """At once, also where it comes while what is waited for begins: that is left then."""
    left: list[str] = []
    with Interrupts() as interrupts:
        interrupts.begin(plugs=True)
        with _ends(), interrupts.waiting(lambda: left.append("not yet")):
            os.kill(os.getpid(), number)
        interrupts.begin(plugs=False)
        os.kill(os.getpid(), number)
        with _ends(), interrupts.waiting(lambda: left.append("left")):
            left.append("waited for")
    assert left == ["left"]


def _ends() -> AbstractContextManager[object]:
    return pytest.raises(DeadlineExpired, match=r"^interrupted before libvirtd answered$")


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_under_way_is_finished(number: signal.Signals) -> None:
    """Then libvirt is not asked to plug anything; whoever has asked already may still look what came of it."""
    with Interrupts() as interrupts:
        os.kill(os.getpid(), number)
        with pytest.raises(Refused, match=r"^interrupted before libvirt was asked$"):
            interrupts.begin(plugs=True)
        interrupts.begin(plugs=False)
        with interrupts.waiting(lambda: pytest.fail("it is waited for")):
            pass


def test_afterwards_all_is_as_before() -> None:
    """Whoever had the signals has them again."""
    before = [signal.getsignal(number) for number in NUMBERS]
    with Interrupts():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before
