# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kit for tests of handlers: a test that would prove nothing fails, and says why."""

import os
from pathlib import Path

import pytest
from cases import NIC
from own import SWAPPINESS, code

from libhook.testing import (
    Assigned,
    Device,
    Driver,
    Fault,
    Guest,
    Host,
    Impossible,
    LibhookError,
    World,
    golden,
    play,
    same_twice,
    undo_restores,
)

PLAIN, WIN11 = Guest("win11"), Guest("win11", (Assigned(NIC),))
SETS = {"sets": code('return {"settings": {"values": {"vm.swappiness": 10}}}')}


@pytest.fixture(name="host")
def _host(simulated_host: Host) -> Host:
    simulated_host.put(SWAPPINESS, "60")
    return simulated_host


def test_two_guests_are_two(host: Host) -> None:
    """Each has a UUID of its own, so what contradicts is refused."""
    settings = '[domains.a.values]\n"vm.swappiness" = 7\n[domains.b.values]\n"vm.swappiness" = 9\n'
    assert play("prepare", Guest("a"), host, settings).code == 0
    assert "to be 7, and this one 9" in play("prepare", Guest("b"), host).line
    assert Guest("a").uuid == Guest("a").uuid != Guest("b").uuid


def test_the_handlers_given_last_are_wanted(host: Host) -> None:
    """Unless the test has said what the settings are."""
    refuses = {"no": code('return {"refuse": "not today"}')}
    assert play("prepare", PLAIN, host, handlers=SETS).asked == ("sets",)
    play("release", PLAIN, host)
    assert play("prepare", PLAIN, host, handlers=refuses).line.startswith("handler no: not today")
    play("release", PLAIN, host)
    assert play("prepare", PLAIN, host, "[handlers.sets]\n", refuses).asked == ("sets",)


def test_handlers_are_enabled_after_those_that_they_need(host: Host) -> None:
    """In whatever order they are given; one that nobody provides is said."""
    needs = code('return {"warn": [str(given["settled"])]}', more=', needs=("pages",)')
    gives = code('return {"warn": ["here"]}', more=', provides=("pages",)')
    outcome = play("prepare", PLAIN, host, handlers={"a": needs, "b": gives})
    assert outcome.asked == ("b", "a")
    with pytest.raises(LibhookError, match="pages"):
        Host(f"{host.root}/other").enable("a", needs)


@pytest.mark.parametrize(
    "wrong", ["prepair", "Prepare", "attach", "detach", ""],
)  # fmt: skip
def test_what_is_no_event_is_refused(host: Host, wrong: str) -> None:
    """It would be green otherwise."""
    for work in (play, same_twice):
        with pytest.raises(ValueError, match="event"):
            work(wrong, PLAIN, host)  # type: ignore[arg-type]


def test_a_handler_that_nobody_asks_is_noticed(host: Host) -> None:
    """The settings have another guest's name, or the handler is asked at another event."""
    for check in (lambda: undo_restores(PLAIN, host, "[domains.win12.handlers.sets]\n", SETS),
                  lambda: same_twice("prepare", PLAIN, host, "[domains.win12.handlers.sets]\n", SETS)):  # fmt: skip
        with pytest.raises(AssertionError, match="nobody has asked sets"):
            check()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("wrte *"), "no call begins with"),
        (Fault("set *", error="ENOSUCH"), "there is no error ENOSUCH"),
        (Fault("set *", before=(("slep", "3"),)), "nobody can do 'slep'"),
        (Fault("set *", nth=-1), "nth is"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(host: Host, fault: Fault, said: str) -> None:
    """Before anything is played."""
    with pytest.raises(ValueError, match=said):
        play("prepare", PLAIN, host, faults=[fault])


def test_a_fault_that_does_not_come_is_noticed(host: Host) -> None:
    """With what was called instead. Each may be written as people write it."""
    host.unit("cups.service")
    with pytest.raises(AssertionError, match=r"(?s)no call was as set \*nothing says.*set /proc/sys/vm/swappiness 10"):
        play("prepare", WIN11, host, handlers=SETS, faults=[Fault("set *nothing")])
    play("release", WIN11, host)
    stop = Fault("systemctl *stop cups.service", ignored=True)
    bind = Fault(f"write /sys/bus/pci/devices/{NIC}/driver_override vfio-pci", error="EIO")
    assert play("prepare", WIN11, host, '[units]\n"cups.service" = "down"\n', faults=[stop]).code == 1
    assert play("prepare", WIN11, host, "", faults=[bind]).code == 1


def test_an_events_faults_are_beside_those_of_the_host(host: Host) -> None:
    """Those last until they are ended."""
    host.fail(Fault(f"set {SWAPPINESS} 10", nth=0, error="EIO"))
    one = Fault("record *", returns=-1)
    assert play("prepare", WIN11, host, handlers=SETS, faults=[one]).code == 1
    assert play("prepare", WIN11, host).code == 1
    host.fail()
    assert play("prepare", WIN11, host).code == 0


def test_a_choice_comes_back(host: Host) -> None:
    """It shows all that it knows, and takes nothing else."""
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    host.put(path, "always [madvise] never")
    for chosen, code_ in (("never", 0), ("sometimes", 1)):
        settings = f'[values]\n"{path}" = "{chosen}"\n'
        assert play("prepare", PLAIN, host, settings).code == code_
        assert host.read(path) == ("madvise" if code_ else chosen)
        play("release", PLAIN, host)
    undo_restores(PLAIN, host, f'[values]\n"{path}" = "never"\n')
    assert host.whole[path] == "always [madvise] never"


def test_an_undo_that_fails_is_noticed(host: Host) -> None:
    """Though the host looks as before: the log says so."""
    host.program("/opt/a/check")
    host.program("/opt/b/check", status=1)
    settings = '[run.x]\ncommand = ["/opt/a/check"]\nundo = ["/opt/b/check"]\n'
    with pytest.raises(AssertionError, match="the log has errors after the guest's end"):
        undo_restores(PLAIN, host, settings)


def test_a_dry_run_at_the_end_says_what_is_done_then(host: Host) -> None:
    """In its order: what is given back, and what the handler warns of after that."""
    warns = {"warns": code('return {"warn": ["bye"]}', operations='"release",')}
    play("prepare", WIN11, host, '[handlers.warns]\n[values]\n"vm.swappiness" = 10\n', warns)
    assert same_twice("release", WIN11, host).plan[-1] == "warning: handler warns: bye"
    assert same_twice("started", PLAIN, host).plan == ()


@pytest.mark.parametrize("mask", [0o002, 0o077, 0o000])
def test_the_umask_does_not_matter(tmp_path: Path, mask: int) -> None:
    """libhook trusts nothing that others may write to, and the kit's own files are none of that."""
    before = os.umask(mask)
    try:
        host = Host(tmp_path / "host")
        host.put("vm.swappiness", "60")
        undo_restores(WIN11, host, handlers=SETS)
    finally:
        assert os.umask(before) == mask


@pytest.mark.parametrize("path", ["sys/x", "../x", "/sys/../../x"])
def test_nothing_is_put_beside_the_host(host: Host, path: str) -> None:
    """A sysctl has dots; any other file its whole path."""
    with pytest.raises(ValueError, match="name a file of the host"):
        host.put(path, "1")


def test_a_host_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative one will do; that of another host is none."""
    monkeypatch.chdir(tmp_path)
    host = Host("here")
    host.put("vm.swappiness", "60")
    undo_restores(PLAIN, host, handlers=SETS)
    for folder in ("here", "", "/"):
        with pytest.raises(ValueError, match="needs a folder of its own"):
            Host(folder)


@pytest.mark.parametrize(
    ("world", "said"),
    [
        (World((Device(NIC, class_="zz"),)), "no six hex digits"),
        (World((Device(NIC, children=(("zoo", "x"),)),)), "a child of the kind 'zoo'"),
        (World((Device(NIC, children=(("net", "a"),)), Device("0000:02:00.0", children=(("net", "a"),)))), "2 times"),
        (World((Device(NIC, remove=-1.0),)), "less than no time"),
        (World((Device(NIC),), (Driver("x", kind="nonsense"),)), "the kind 'nonsense'"),  # type: ignore[arg-type]
    ],
)
def test_more_hosts_that_cannot_be(tmp_path: Path, world: World, said: str) -> None:
    """Each says what is wrong with it."""
    with pytest.raises(Impossible, match=said):
        Host(tmp_path / "host", world)


def test_golden_plans_have_places_of_their_own() -> None:
    """Whatever a test is called, and however often it compares."""
    file = Path("/a/test_x.py")
    assert golden.place(file, "test_it", 1) == Path("/a/plans/test_x.test_it.txt")
    names = [("One::test_it", 1), ("Two::test_it", 1), ("test_it", 2), ("test_it[a/b]", 1), ("test_it[a_b]", 1)]
    places = {golden.place(file, *name) for name in names}
    assert len(places) == len(names)
    assert len(golden.place(file, "test_" + "x" * 400, 1).name) < 200
