# SPDX-License-Identifier: LGPL-2.1-or-later
"""``libhook recover --give-up``: what never comes back is forgotten, that alone, and stays as it is."""

import itertools
import json
import os
from pathlib import Path

import disturbing
import hanging
import pytest
from amounts import SAMPLED, sample
from asking import PROGRAM, make, settings, states
from asking_each import LEGACY, equip
from cases import DISK, NIC
from command import libhook
from giving_up import NEVER, OTHER, SET, SWAPPINESS, WIN11, leave, paste, stuck, value_host
from modules_out import WIN11 as OF_STACK
from scenario import Host, guest, reap
from stage import Stage

from libhook.command import completing
from libhook.facts.address import PciAddress
from libhook.facts.remedy import called, give_up
from libhook.simulation import faults, store
from libhook.simulation.hosts import workstation

REMEDY = f"to leave it as it is, run: libhook recover --give-up {SWAPPINESS}"
FAILED = f'{SWAPPINESS} is "10" instead of "60" (Invalid argument)'


def test_a_value_that_cannot_be_restored_is_given_up_as_every_line_about_it_says(root: str) -> None:
    """The refusal, recover's own failure and status end in one command; after it the guest starts, and ends."""
    host = stuck(root)
    refused = host.event(WIN11, "prepare")
    assert refused.code == 1
    assert refused.line == (f"the guest still holds {SWAPPINESS} from its last run ({FAILED}): mend that, or {REMEDY}")
    failed = libhook(host, "recover")
    assert (failed.code, failed.err) == (1, f"win11: not given back: {FAILED}: {REMEDY}\n")
    assert f"  if that fails, {REMEDY}\n" in libhook(host, "status", columns=200).out
    dry = libhook(host, "recover", "--give-up", SWAPPINESS, "--dry-run")
    assert (dry.code, dry.out) == (
        0,
        f"win11: value {SWAPPINESS} would be given up: it stays as it is\n",
    )
    assert WIN11.uuid in host.state.uuids()
    done = paste(host, failed.err.rstrip())
    assert (done.code, done.out, done.err) == (
        0,
        f"win11: value {SWAPPINESS} is given up: it stays as it is\n",
        "",
    )
    logged = [line for line in store.lines(f"{root}/var/log/libhook.jsonl") if line["event"] == "given up"]
    assert [(line["guest"], line["action"]) for line in logged] == [("win11", f"value {SWAPPINESS}")]
    assert (host.read(SWAPPINESS), host.leftovers) == ("10", [])
    faults.heal(root)
    host.begin(WIN11)
    assert host.event(WIN11, "release", "shutdown").code == 0
    assert (host.read(SWAPPINESS), host.leftovers) == ("10", [])


@pytest.mark.parametrize("spelt", [SWAPPINESS, "vm.swappiness", f"value {SWAPPINESS}"])
def test_the_claims_of_others_stay(root: str, spelt: str) -> None:
    """A guest that runs keeps its own, and at its end what was there before comes back, if it can."""
    host = value_host(root)
    host.begin(WIN11)
    assert host.libvirt.start(OTHER).error == ""
    leave(host, WIN11.uuid)
    shared = Path(host.machine.state, "shared", "value%20proc%20sys%20vm%20swappiness.json")
    assert set(json.loads(shared.read_text())["claims"]) == {WIN11.uuid, OTHER.uuid}
    done = libhook(host, "recover", "--give-up", spelt)
    assert done.code == 0
    assert f"win11: value {SWAPPINESS} is given up" in done.out
    assert f"other: value {SWAPPINESS} left alone, because " in done.out
    assert set(json.loads(shared.read_text())["claims"]) == {OTHER.uuid}
    held = host.state.load(OTHER.uuid)
    assert held
    assert f"value {SWAPPINESS}" in held.actions_by_key()
    again = libhook(host, "recover", "--give-up", spelt)
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith(f"other: value {SWAPPINESS} left alone, because ")
    host.libvirt.stop(OTHER.name, "shutdown")
    assert host.read(SWAPPINESS) == "60"
    libhook(host, "recover")
    assert host.leftovers == []


def test_what_several_dead_guests_have_is_given_up_of_those_that_are_named(root: str) -> None:
    """Without a guest they are listed, nothing is done, and the line ends in what gives up all. The claim of the other
    stays, and it brings back what was there before."""
    host = value_host(root)
    for one in (WIN11, OTHER):
        host.begin(one)
    for one in (WIN11, OTHER):
        leave(host, one.uuid)
    before = host.everything()
    both = " ".join(f"--give-up '{one.uuid}:value {SWAPPINESS}'" for one in (OTHER, WIN11))
    for more in ([], ["--dry-run"]):
        asked = libhook(host, "recover", "--give-up", "vm.swappiness", *more)
        assert (asked.code, asked.out) == (1, "")
        assert asked.err == (
            f"other ({OTHER.uuid}) and win11 ({WIN11.uuid}) have vm.swappiness: "
            f"leave out whose is to come back, and run: libhook recover {both}\n"
        )
    assert host.everything() == before
    assert paste(host, f"{asked.err.strip()} --dry-run").out == "".join(
        f"{name}: value {SWAPPINESS} would be given up: it stays as it is\n" for name in ("other", "win11")
    )
    done = libhook(host, "recover", "--give-up", f"{OTHER.uuid}:vm.swappiness")
    assert (done.code, done.out) == (0, f"other: value {SWAPPINESS} is given up: it stays as it is\n")
    assert "holds nothing called" in libhook(host, "recover", "--give-up", f"{OTHER.uuid}:vm.swappiness").err
    libhook(host, "recover")
    assert (host.read(SWAPPINESS), host.leftovers) == ("60", [])


def test_each_kind_of_thing_is_given_up_alone(root: str) -> None:
    """Nothing is written, run or begun, all else stays in the entry, and in the end nothing is left."""
    run = f'[run.begin]\ncommand = ["{PROGRAM}"]\nundo = ["{PROGRAM}"]\n'
    host = make(root, LEGACY + settings("modules", "mounts", "units", "values") + run)
    equip(host, script=True)
    host.begin(OF_STACK)
    uuid = OF_STACK.uuid
    leave(host, uuid)
    now = states(host), host.changed
    before = host.state.load(uuid)
    assert before
    kinds = {action.kind for action in before.actions}
    assert kinds >= {"pci", "module", "unit", "value", "run", "legacy"}
    assert {f"shared/{name}" for name in os.listdir(f"{host.machine.state}/shared")} <= {*host.leftovers}
    assert give_up(before).count("--give-up ") == 3
    for number, action in enumerate(before.actions, 1):
        outcome = host.observed("recover", lambda: _gives_up(host, called(action.key)))  # noqa: B023
        assert (outcome.code, outcome.writes, outcome.systemd, outcome.commands) == (0, (), (), ()), outcome.stderr
        left = host.state.load(uuid)
        keys = [one.key for one in left.actions] if left else []
        assert keys == [one.key for one in before.actions[number:]]
    assert (states(host), host.changed) == now
    assert host.leftovers == []


def test_the_shell_completes_what_may_be_given_up(root: str) -> None:
    """By its name."""
    more = [f"/proc/sys/vm/{name}" for name in "zyxw"]
    host = value_host(root, SET + "".join(f'"{path}" = 10\n' for path in more))
    for path in more:
        host.put(path, "60")
    host.begin(WIN11)
    complete = completing._completer(host.machine, "THING")
    assert complete("") == [SWAPPINESS, *more[::-1], NIC]
    assert complete("/proc") == [SWAPPINESS, *more[::-1]]


def _gives_up(host: Host, thing: str) -> tuple[int, str, list[str]]:
    done = libhook(host, "recover", "--give-up", thing)
    return done.code, done.out, done.err.splitlines()


def test_a_device_that_is_given_up_stays_where_it_is_and_the_trail_says_that_it_did_not_come_back(root: str) -> None:
    """libhook forgets it: another guest may have it. What has it open keeps it."""
    host = Host(root, workstation())
    host.begin(WIN11)
    faults.inject(root, faults.Fault(f"write *{NIC}/driver/unbind *", nth=0, error="EBUSY"))
    faults.inject(root, faults.Fault("write bus/pci/drivers/vfio-pci/unbind *", nth=0, error="EBUSY"))
    host.event(WIN11, "release", "shutdown")
    assert host.driver(NIC) == "vfio-pci"
    failed = libhook(host, "recover")
    assert failed.err.endswith(f"to leave it as it is, run: libhook recover --give-up {NIC}\n")
    done = paste(host, failed.err.rstrip())
    assert done.out == f"win11: pci {NIC} is given up: it stays as it is, {NIC} on vfio-pci\n"
    assert (host.driver(NIC), host.leftovers) == ("vfio-pci", [])
    assert host.records == [f"start {NIC} success", f"stop {NIC} failed"]
    faults.heal(root)
    host.begin(OTHER._replace(devices=WIN11.devices))


def test_a_device_that_is_given_up_is_recorded_as_the_guests_settings_have_it(root: str) -> None:
    """Each line calls the guest by a name that begins no command."""
    host = Host(root, workstation(), '[audit]\nrecord = "2011"\n')
    one = guest(NIC, name="run: x")
    host.begin(one)
    leave(host, one.uuid)
    for options in (("--dry-run",), ()):
        done = libhook(host, "recover", "--give-up", NIC, *options)
        assert (done.code, done.out.startswith(f'"run\\x3a x": pci {NIC} ')) == (0, True)
    texts = [line["text"] for line in store.lines(f"{root}/var/log/audit.jsonl")]
    assert [text.split()[:2] for text in texts] == [["resrc=dev", f"reason={why}"] for why in ("start", "stop")]


def test_a_device_that_hangs_is_given_up_and_nobody_touches_it_until_it_answers(root: str) -> None:
    """The guest may start without it. Whoever wants it is refused while the write is on its way."""
    host = Host(root, workstation())
    host.begin(WIN11)
    host.patience = 0
    faults.inject(root, faults.Fault("write *unbind *", before=hanging.HANG))
    hanging.late(root)
    host.event(WIN11, "release", "shutdown")
    assert host.state.in_flight() == {PciAddress.parse(NIC)}
    without = guest(DISK)
    assert f"the guest still holds {NIC}" in host.event(without, "prepare").line
    done = libhook(host, "recover", "--give-up", NIC)
    assert (done.code, done.err) == (0, "")
    host.begin(without)
    third = OTHER._replace(devices=WIN11.devices)
    assert NIC in host.event(third, "prepare").line
    host.event(third, "release", "failed")
    hanging.let_go(root)
    assert reap(60)
    host.event(without, "release", "shutdown")
    libhook(host, "recover")
    assert host.leftovers == []


def test_each_crash_point_of_giving_up_is_survived(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever comes next, recover or the command again, the value stays, and the guest starts."""
    host = stuck(root)
    stage = Stage(host)
    stage.keep()

    def deed() -> int:
        return libhook(host, "recover", "--give-up", SWAPPINESS).code

    points = [point for point in disturbing.points(host, deed, both=False) if point.changes]
    stage.put_back()
    assert len(points) > 3
    ways = itertools.cycle(("recover", "again"))
    some = sample(points, 8, "give up") if SAMPLED else points
    plays = [(point, str(point), next(ways)) for point in some]
    for point, way, status in stage.kill(deed, plays):
        faults.inject(root, NEVER)
        problems = [] if status not in (0, 1) or point.how == "writer" else ["was not killed"]
        if way == "again" and libhook(host, "recover", "--give-up", SWAPPINESS).code not in (0, 1):
            problems.append("it cannot be given up")
        libhook(host, "recover")
        if WIN11.uuid in host.state.uuids() and libhook(host, "recover", "--give-up", SWAPPINESS).code:
            problems.append("it cannot be given up any more")
        if host.read(SWAPPINESS) != "10":
            problems.append(f"it is {host.read(SWAPPINESS)}")
        if host.leftovers:
            problems.append(f"left: {host.leftovers}")
        if host.event(WIN11, "prepare").code:
            problems.append("the guest does not start")
        stage.tell(problems)
    outcomes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {point: problems for point, problems in outcomes if problems} == {}
    assert len(outcomes) >= len(plays)
