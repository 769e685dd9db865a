# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hook, attach, detach and watch are killed at each of their effects; whoever comes next leaves all as it began.

In the ordinary run at every point of one device's life that makes a difference to anybody, with two of those who may
come next, in turn, and at some points of the longer lives (in the quick run at one of many of all these); in the long
run every point with every comer, before and after, by os._exit and by SIGKILL. So it is where guests that share a
thing begin and end in every order.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest
from aftermath import recover
from amounts import AMOUNTS, FULL, SAMPLED, offset
from cases import NIC
from crash_lives import LIVES
from crash_watch import EVENTS
from scenario import Host, guest
from shared_crashes import FOLDS, orders
from stage import played, survived

from libhook.simulation.hosts import nic

pytestmark = pytest.mark.race

_EVERY = {
    "one device, taken": 1,
    "one device, given back": 1,
    "one device, not waited for": 1,
    "one of a group of three": 25,
    "eight devices": 60,
}
_OFTEN = 12
_ACTIONS = {
    "modules": (29, "acb"),
    "values": (41, "bca"),
    "commands": (67, "cab"),
    "mounts": (59, "bca"),
    "legacy and take_along": (53, "acb"),
    "a handler": (37, "bac"),
    "all": (97, "cba"),
}
"""One of so many points of an ordinary run, and the order in which its three guests end."""
_SHARES = 8
"""Of an order of which every point is played. A process plays one of them."""
_LEAST_POINTS = 240
"""Of each of these, with the two guests of a sample."""
_NOT_SAMPLED = ("mounts",)
"""Of a quick run they are part of all."""
_CLAIMS = {"ab": 4, "abc": 20}
"""Of an ordinary run: a prime to the three ways in which a crash goes on."""
_SAMPLED_CLAIMS = {*((guests, "together") for guests in _CLAIMS), *(("ab", fold) for fold in FOLDS)}


def _every(usual: int) -> int:
    return usual * AMOUNTS.crashes or 1


def _shares(of: str, every: int) -> list[tuple[int, int]]:
    """Return where each process that plays them begins, and one of how many points it plays."""
    return [(first, _SHARES) for first in range(_SHARES)] if every == 1 else [(offset(of, every), every)]


def test_every_crash_point_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """Drivers, overrides and /run/libhook are as they began, or the second guest has the device; the trail is true."""
    plugs = [("crash_plugs.py", verb, _every(1)) for verb in ("attach", "detach")]
    lives = [("crash_lives.py", life, _every(_EVERY.get(life, _OFTEN))) for life in LIVES]
    survived(capsys, "crash points", played(*lives, *plugs), {"": len(lives) if SAMPLED else 150})


def test_every_crash_point_of_the_watch_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """What it was about to record is recorded, twice at worst, and what it has recorded has an end."""
    plays = [("crash_watch.py", event, _every(1)) for event in EVENTS]
    survived(capsys, "crash points of the watch", played(*plays), {"": len(EVENTS) if SAMPLED else 100})


def test_a_point_that_failed_is_played_again_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As often as the test is. One that is not there any more has not passed."""
    monkeypatch.setenv("LIBHOOK_POINTS", str(tmp_path / "points"))
    plays: list[tuple[object, ...]] = [
        ("crash_plugs.py", "attach", 20),
        ("shared_crashes.py", "ab", "most", 0, 40),
        ("crash_lives.py", "with an old script", 20),
    ]
    outcomes = played(*plays)
    assert all(not problems for _, problems in outcomes)
    kills = [number for number, (case, _) in enumerate(outcomes) if "(" in case]
    for number in (kills[2], kills[len(kills) // 2], kills[-1]):
        outcomes[number] = outcomes[number][0], ["it fails"]
    with pytest.raises(AssertionError, match="it fails"):
        survived(capsys, "points", outcomes, {})
    for _ in range(2):
        again = played(*plays)
        assert len(again) == 3
        survived(capsys, "points", again, {"": len(outcomes)})
    with pytest.raises(AssertionError):
        survived(capsys, "points", again[1:], {})


def test_there_is_each_order_in_which_guests_may_come_and_go() -> None:
    """Two of two ends among two begins; the names of those who begin say nothing."""
    assert [" ".join(f"{what[0]}{name}" for what, name in order) for order in orders("ab")] == [
        "ba ea bb eb",
        "ba bb ea eb",
        "ba bb eb ea",
    ]
    assert len(orders("abc")) == 15


def test_every_crash_point_of_a_claim_is_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever lives has what all want together; once all are gone it is as it began, and no file is left."""
    plays = [(guests, fold) for guests in _CLAIMS for fold in FOLDS if not SAMPLED or (guests, fold) in _SAMPLED_CLAIMS]
    calls = []
    for number, (guests, fold) in enumerate(plays):
        every = _every(_CLAIMS[guests])
        first = (number * every // len(plays) + offset("claims", every)) % every
        calls.append(("shared_crashes.py", guests, fold, first, every))
    least = {", then ": 5} if SAMPLED else {", then ": 50, " late ": 20}
    survived(capsys, "crash points of claims", played(*calls), least)


def test_every_crash_point_of_guests_that_ask_the_same_of_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    """Who lives has it as wanted, and its command in the background; in the end nothing runs, and all is as it began.

    What was begun of a command is undone, and nothing of one that no entry names. An old script is told of an end after
    each start. What was ended does not come back, and nothing else goes.
    """
    mixes = [mix for mix in _ACTIONS if mix != "all" and not (SAMPLED and mix in _NOT_SAMPLED)]
    plays = [(mix, ends) for mix in mixes for ends in _orders_of_ends(mix)]
    _expect_survived(capsys, "crash points of actions", plays, 100)


@pytest.mark.parametrize("third", range(1 if SAMPLED else 3))
def test_every_crash_point_of_guests_that_ask_for_everything(capsys: pytest.CaptureFixture[str], third: int) -> None:
    """As those, and all of it together: a third of the orders in which they end, for it takes long."""
    plays = [("all", ends) for ends in _orders_of_ends("all")[third::3]]
    _expect_survived(capsys, "crash points of all actions together", plays, 10)


def _orders_of_ends(mix: str) -> list[str]:
    """Return the guests of each life, in the order in which they end."""
    if FULL:
        return ["a", *map("".join, (*permutations("ab"), *permutations("abc")))]
    return ["ba"] if SAMPLED else ["ab", "ba", _ACTIONS[mix][1]]


def _expect_survived(capsys: pytest.CaptureFixture[str], what: str, plays: list[tuple[str, str]], least: int) -> None:
    calls = []
    for mix, ends in plays:
        shares = _shares(f"{mix} {ends}", min(_every(_ACTIONS[mix][0]), _LEAST_POINTS))
        calls += [("crash_actions.py", mix, ends, *share) for share in shares]
    survived(capsys, what, played(*calls), {"": len(calls) if SAMPLED else least})


def test_recover_in_a_loop_beside_starts_takes_nothing(root: str) -> None:
    """Whatever moment of a start it meets, what is alive stays as it is, and every start succeeds."""
    host = Host(root, nic())
    one = guest(NIC)
    with _recovering(host) as times:
        for _ in range(AMOUNTS.beside):
            begun = host.libvirt.start(one)
            assert begun.error == ""
            assert host.driver(NIC) == "vfio-pci"
            assert [held.phase for held in host.outcomes[-1].journal.values()] == ["started"]
            host.libvirt.stop(one.name, "shutdown")
            assert host.changed == []
    assert sum(times) >= AMOUNTS.beside
    assert host.trail == [f"start {NIC} success", f"stop {NIC} success"] * AMOUNTS.beside
    recover(host)
    assert host.leftovers == []


@contextmanager
def _recovering(host: Host) -> Iterator[list[int]]:
    """Run recover again and again meanwhile, in a process that is nobody's child; afterwards how often it ended."""
    times: list[int] = []
    until, stop = os.pipe()
    told, tell = os.pipe()
    if (child := os.fork()) == 0:
        os.close(stop)
        os.set_blocking(until, False)
        count = 0
        try:
            if os.fork() == 0:
                while _is_open(until):
                    recover(host)
                    count += 1
                os.write(tell, str(count).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(until)
    os.close(tell)
    try:
        yield times
    finally:
        os.close(stop)
        with os.fdopen(told) as answer:
            times.append(int(answer.read() or 0))


def _is_open(end: int) -> bool:
    try:
        return os.read(end, 1) != b""
    except BlockingIOError:
        return True
