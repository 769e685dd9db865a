# SPDX-License-Identifier: LGPL-2.1-or-later
"""When a guest's journal entry is dead, and who keeps it alive: never harm a guest that runs."""

from itertools import product

import pytest

from libhook.facts.entry import Held, Phase, Process
from libhook.story.recovery import Facts, sign_of_life

PHASES: tuple[Phase, ...] = ("preparing", "prepared", "refused", "started", "releasing")
NOBODY = Facts(busy=False, libvirtd_lives=False, status_known=True, has_status=False, in_use="")


def _held(phase: Phase) -> Held:
    return Held("uuid", "win\n11", "kvm", phase, "boot", Process(900, 1))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("starting_anew", [False, True])
def test_nobody_left_is_dead_in_every_phase(phase: Phase, starting_anew: bool) -> None:
    """No lock, no libvirtd, no status file, no open node."""
    assert sign_of_life(_held(phase), NOBODY, starting_anew) is None


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("starting_anew", [False, True])
@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (NOBODY._replace(busy=True), 'a libhook process works on the guest "win\n11"'),
        (NOBODY._replace(has_status=True), 'libvirt says that the guest "win\n11" runs'),
        (NOBODY._replace(in_use="0000:01:00.0 is open in qemu (pid 7)"), "0000:01:00.0 is open in qemu (pid 7)"),
    ],
)
def test_what_always_keeps_it_alive(phase: Phase, starting_anew: bool, facts: Facts, said: str) -> None:
    """Whatever the phase, and whoever asks. The guest's name is in it as it is: who prints the reason escapes it."""
    reason = sign_of_life(_held(phase), facts, starting_anew)
    assert reason is not None
    assert said in reason


@pytest.mark.parametrize(
    ("phase", "status_known", "alive"),
    [
        ("preparing", True, False),
        ("preparing", False, False),
        ("releasing", True, False),
        ("releasing", False, False),
        ("prepared", True, True),
        ("prepared", False, True),
        ("refused", True, True),
        ("refused", False, True),
        ("started", True, False),
        ("started", False, True),
    ],
)
def test_what_a_libvirtd_that_lives_says(phase: Phase, status_known: bool, alive: bool) -> None:
    """Between prepare and QEMU's start only it stands for the guest; once started its status file must be there."""
    facts = NOBODY._replace(libvirtd_lives=True, status_known=status_known)
    assert (sign_of_life(_held(phase), facts) is not None) is alive
    assert sign_of_life(_held(phase), facts, starting_anew=True) is None


def test_a_guest_in_use_is_never_dead() -> None:
    """Over all combinations: an open node or a status file is a guest that runs."""
    either = (False, True)
    for phase, busy, lives, known, anew in product(PHASES, either, either, either, either):
        for facts in (Facts(busy, lives, known, True, ""), Facts(busy, lives, known, False, "qemu")):
            assert sign_of_life(_held(phase), facts, anew)
