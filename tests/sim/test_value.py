# SPDX-License-Identifier: LGPL-2.1-or-later
"""A sysctl or sysfs file that has another value while a guest runs: ``values`` in the settings."""

import json
from pathlib import Path
from unittest import mock

import hanging
import overdue
import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host, guest, reap

from libhook.children.child import Deadline
from libhook.effects.state import State
from libhook.errors import KERNEL_LOG
from libhook.facts.config import Config
from libhook.facts.shared import file_name
from libhook.facts.value import path_of
from libhook.kinds.kind import Work
from libhook.kinds.value import Value, carry_out
from libhook.simulation import faults
from libhook.simulation.hosts import workstation
from libhook.simulation.kernel import SimulatedKernel
from libhook.story.session import make_state

SWAPPINESS, THP = "/proc/sys/vm/swappiness", "/sys/kernel/mm/transparent_hugepage/enabled"
BOTH = f'[values]\n"vm.swappiness" = 10\n"{THP}" = "never"\n'
WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
THIRD = guest("0000:00:1f.3", name="third")._replace(uuid="22222222-2222-3333-4444-555555555555")


def _host(root: str, config: str = BOTH) -> Host:
    """One with these two files; one is a choice."""
    host = Host(root, workstation(), config)
    host.put(SWAPPINESS, "60")
    host.put(THP, "always [madvise] never")
    return host


def _values(host: Host) -> tuple[str, str]:
    return host.read(SWAPPINESS), host.read(THP)


def test_another_guests_entry_is_read_as_often_however_many_values_they_share(root: str) -> None:
    """It grows with them, too."""
    read = {}
    for count in (1, 2):
        host = _host(f"{root}/{count}", BOTH if count == 2 else f'[values]\n"{THP}" = "never"\n')
        assert host.libvirt.start(WIN11).error == ""
        with mock.patch.object(State, "load", autospec=True, side_effect=State.load) as load:
            assert host.libvirt.start(OTHER).error == ""
            libhook(host, "recover")
            assert "holds nothing called" in libhook(host, "recover", "--give-up", "vm.nothing").err
            host.libvirt.stop("other", "shutdown")
        read[count] = sum(call.args[1] == WIN11.uuid for call in load.call_args_list)
        assert _values(host) == (("60", "10")[count == 2], "never")
    assert read[1] == read[2]


def test_a_guest_has_the_values_as_long_as_it_lives(root: str) -> None:
    """The dry run says so, the journal has them, and its end gives back what was there before."""
    host = _host(root)
    foretold = host.call(("win11", "prepare", "begin", "-"), WIN11.xml(1, False), dry_run=True)
    assert foretold.stderr[:2] == (f'set {SWAPPINESS} to "10"', f'set {THP} to "never"')
    assert _values(host) == ("60", "madvise")
    host.begin(WIN11)
    assert _values(host) == ("10", "never")
    assert f'value {SWAPPINESS}  set to "10"' in libhook(host, "status").out
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)
    assert {"action": "value", "path": THP, "value": "never", "lines": [f'set {THP} to "never"']} in shown["actions"]
    ended = host.event(WIN11, "release", "shutdown")
    assert f"give {THP} its value back, if no other guest wants this one" in ended.plan
    assert _values(host) == ("60", "madvise")
    assert host.leftovers == []
    assert host.records == [f"start {NIC} success", f"stop {NIC} success"]


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_who_ends_first_leaves_the_other_its_value(root: str, first_to_end: int) -> None:
    """What was there before both comes back with the last."""
    host = _host(root)
    guests = [WIN11, OTHER]
    for one in guests:
        host.begin(one)
    host.event(guests.pop(first_to_end), "release", "shutdown")
    assert _values(host) == ("10", "never")
    host.event(guests.pop(), "release", "shutdown")
    assert _values(host) == ("60", "madvise")
    assert host.leftovers == []


def test_a_second_guest_that_wants_another_value_is_refused(root: str) -> None:
    """It is told which guest has it, and all that was done for it is undone."""
    host = _host(root, f'{BOTH}[domains.other.values]\n"vm.swappiness" = 20\n"{THP}" = "never"\n')
    host.begin(WIN11)
    outcome = host.event(OTHER, "prepare")
    assert outcome.code == 1
    assert outcome.line == (
        f"the guest win11 ({WIN11.uuid}) wants {SWAPPINESS} to be 10, and this one 20: "
        "stop that guest first, or have the settings of both ask for the same; libhook config shows them"
    )
    assert (host.driver(DISK), _values(host)) == ("nvme", ("10", "never"))
    host.event(OTHER, "release", "failed")
    host.event(WIN11, "release", "shutdown")
    assert (_values(host), host.leftovers) == (("60", "madvise"), [])


def test_what_somebody_else_made_of_it_meanwhile_stays(root: str) -> None:
    """And that is said."""
    host = _host(root)
    host.begin(WIN11)
    Path(f"{root}{SWAPPINESS}").write_text("30\n")
    ended = host.event(WIN11, "release", "shutdown")
    assert _values(host) == ("30", "madvise")
    assert any("somebody else" in str(entry) for entry in ended.log)
    assert host.leftovers == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.Fault(f"set {SWAPPINESS} 10", error="EINVAL"), 'is "60" instead of "10" (Invalid argument)'),
        (faults.Fault(f"set {SWAPPINESS} 10", before=hanging.HANG), "does not answer in time"),
    ],
)
def test_a_value_that_is_not_taken_refuses_the_start(root: str, fault: faults.Fault, said: str) -> None:
    """Success is what is read back. The other value goes back, and no device is touched."""
    host = _host(root)
    host.patience = 0
    faults.inject(root, fault)
    hanging.late(root)
    outcome = host.event(WIN11, "prepare")
    hanging.let_go(root)
    assert reap(60)
    assert outcome.code == 1
    assert f"{SWAPPINESS} {said}" in outcome.line
    assert (host.driver(NIC), _values(host)[1]) == ("e1000e", "madvise")


def test_a_value_that_the_file_shows_in_another_way_is_said(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a mask of CPUs. What was there before goes back."""
    host, real = _host(root), SimulatedKernel.set_value

    def padded(kernel: SimulatedKernel, path: str, value: str) -> None:
        real(kernel, path, value.replace("10", "00010"))

    monkeypatch.setattr(SimulatedKernel, "set_value", padded)
    assert host.event(WIN11, "prepare").line == (
        f'{SWAPPINESS} is "00010" instead of "10": if that is the same, write it so in the settings; else {KERNEL_LOG}'
    )
    assert _values(host) == ("60", "madvise")


def test_a_file_that_is_not_there_refuses_the_start(root: str) -> None:
    """It is not made."""
    host = _host(root, '[values]\n"vm.no_such" = 1\n')
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert outcome.line == (
        "there is no file /proc/sys/vm/no_such: correct values in the settings; libhook config shows where"
    )
    assert not Path(f"{root}/proc/sys/vm/no_such").exists()


def test_what_cannot_be_read_refuses_the_start(root: str) -> None:
    """Nobody could give back what it was."""
    host = _host(root, '[values]\n"vm/folder" = 1\n')
    Path(f"{root}/proc/sys/vm/folder").mkdir()
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert outcome.line == "/proc/sys/vm/folder: Is a directory: name a file that can be read"
    assert outcome.writes == ()


def test_a_file_whose_driver_does_not_answer_costs_a_child(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some attributes take their device's lock when they are read. The start is refused in time."""
    host = _host(root)
    monkeypatch.setattr("libhook.kinds.value._show", lambda *_: hanging.hang(root))
    host.patience = 0
    hanging.late(root)
    outcome = host.event(WIN11, "prepare")
    hanging.let_go(root)
    assert reap(60)
    assert outcome.code == 1
    assert outcome.line.startswith(f"the deadline passed before {SWAPPINESS} was reached")
    assert _values(host) == ("60", "madvise")


def test_one_file_by_two_names_is_an_error_of_the_settings(root: str) -> None:
    """Both values could not be set; nothing is."""
    host = _host(root, f'[values]\n"vm.swappiness" = 10\n"{SWAPPINESS}" = 20\n')
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert outcome.line.startswith(f'"{SWAPPINESS}" and "vm.swappiness" are the same file: correct values in ')
    assert _values(host)[0] == "60"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vm.swappiness", SWAPPINESS),
        ("vm/swappiness", SWAPPINESS),
        (SWAPPINESS, SWAPPINESS),
        (THP, THP),
        ("net.ipv4.conf.eth0/1.forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("net/ipv4/conf/eth0.1/forwarding", "/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
        ("/sys/devices/pci0000:00/0000:00:1f.3/power/control", "/sys/devices/pci0000:00/0000:00:1f.3/power/control"),
    ],
)
def test_a_name_is_read_as_sysctl_reads_it(name: str, path: str) -> None:
    """Whichever separator comes first separates."""
    assert path_of(name) == path


def test_a_value_at_which_somebody_else_is_at_work_is_waited_for_and_then_refused(root: str) -> None:
    """As long as the kind has time; no file is written without its lock."""
    host = _host(root)
    one = Value(SWAPPINESS, "10")
    work = Work(host.machine, make_state(host.machine), Deadline.after(0), Config(), WIN11.uuid)
    assert (one.subject, one.ours, one.provides) == (SWAPPINESS, True, ())
    with host.state.locked([f"shared-{file_name('value proc sys vm swappiness')}"], Deadline.after(60)):
        (outcome,) = carry_out(work, [one])
    assert outcome.failure
    assert outcome.failure.reason.endswith("is not free")
    assert _values(host) == ("60", "madvise")


UNDONE = "what a guest without a journal entry wanted is undone"


def test_recover_gives_back_what_a_removed_entry_claimed(root: str) -> None:
    """Nobody else would: the guest's end finds no entry. What a guest with an entry wants stays."""
    host = _host(root, f"{BOTH}[domains.other.values]\n")
    host.begin(WIN11)
    host.state.remove("domains", f"{WIN11.uuid}.json")
    said = [f"{path}: {UNDONE}" for path in (SWAPPINESS, THP)]
    foretold = libhook(host, "recover", "--dry-run")
    assert (foretold.code, foretold.err) == (0, "")
    assert foretold.out.replace("would be undone", "is undone").splitlines() == said
    assert _values(host) == ("10", "never")
    done = libhook(host, "recover")
    assert (done.code, done.err, done.out.splitlines()) == (0, "", said)
    assert _values(host) == ("60", "madvise")
    assert libhook(host, "recover").out == "nothing is held\n"
    assert host.leftovers == []


def test_recover_leaves_the_values_of_guests_that_run(root: str) -> None:
    """Also where another guest's entry is gone, and where the value has been changed since."""
    host = _host(root)
    for one in (WIN11, OTHER):
        assert host.libvirt.start(one).error == ""
    assert UNDONE not in libhook(host, "recover").out
    host.state.remove("domains", f"{WIN11.uuid}.json")
    Path(f"{root}{SWAPPINESS}").write_text("30\n")
    assert libhook(host, "recover", "--dry-run").out.count("would be undone") == 2
    done = libhook(host, "recover")
    assert (done.code, done.err) == (0, "")
    assert f'{SWAPPINESS} was changed to "30" by somebody else, and stays so\n{THP}: {UNDONE}\n' in done.out
    assert _values(host) == ("30", "never")
    assert "changed" not in libhook(host, "recover").out, "that is said once"
    host.libvirt.stop("other")
    assert _values(host) == ("30", "madvise")


def test_recover_says_what_it_cannot_settle(root: str) -> None:
    """A file that cannot be written any more: its claims stay."""
    host = _host(root)
    host.begin(WIN11)
    host.state.remove("domains", f"{WIN11.uuid}.json")
    faults.inject(root, faults.Fault(f"set {SWAPPINESS} 60", error="EPERM"))
    done = libhook(host, "recover")
    assert done.code == 1
    assert done.err.startswith(f'{SWAPPINESS} is "10" instead of "60" (Operation not permitted): ')
    assert _values(host) == ("10", "madvise")


def test_recover_says_which_claims_somebody_works_on(root: str) -> None:
    """It waits no longer than for anything else."""
    host = _host(root)
    host.begin(WIN11)
    host.state.remove("domains", f"{WIN11.uuid}.json")
    file = file_name(f"value{SWAPPINESS.replace('/', ' ')}")
    with host.state.locked([f"shared-{file}"], Deadline.after(60)), overdue.at_a_lock():
        done = libhook(host, "recover")
    assert (done.code, done.err.split(": ")[0]) == (1, host.state.shared_path(file))
    assert _values(host) == ("10", "madvise")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is broken (Expecting property name"),
        ("[]", "it does not hold the claims to a shared thing"),
        ('{"format": 9}', "in format 9; this version reads 1"),
        (
            '{"format": 1, "resource": "mtu", "boot": "", "base": null, "last": null, "claims": {}, "intent": null}',
            "for a thing that this version does not know: install that version again",
        ),
    ],
)
def test_recover_names_a_file_of_claims_that_it_cannot_read(root: str, text: str, said: str) -> None:
    """And leaves it; the others are settled all the same."""
    host = _host(root)
    host.begin(WIN11)
    host.state.remove("domains", f"{WIN11.uuid}.json")
    path = Path(host.state.shared_path("broken"))
    path.write_text(text)
    path.chmod(0o600)
    done = libhook(host, "recover")
    assert done.code == 1
    assert str(path) in done.err
    assert said in done.err
    assert _values(host) == ("60", "madvise")
    assert path.read_text() == text
