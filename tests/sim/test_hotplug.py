# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices plugged into a guest that runs, and out: each way it can go, on a simulated host with its libvirtd."""

import pytest
from aftermath import recover
from cases import DISK, GPU, NIC, SOUND, triple
from plugging import attach, detach, running, xml
from scenario import Host, guest

from libhook.hotplug.request import CONFIG, LIVE
from libhook.look import processes
from libhook.simulation import store
from libhook.simulation.guests import Assigned, Guest
from libhook.simulation.hosts import workstation
from libhook.simulation.hypervisor import Hypervisor

UUID = Guest().uuid
ONE, TWO, THREE = ("0000:08:00.0", "0000:08:00.1", "0000:08:00.2")


def writes(host: Host) -> list[tuple[str, str]]:
    """Every write of libhook's so far, in order."""
    lines = store.lines(f"{host.root}/var/log/writes.jsonl")
    return [(f"/sys/{one['path']}", one["value"]) for one in lines if one["by"] == "libhook"]


def ended(host: Host, *trail: str) -> None:
    """The guest ends; then the host is as it began, nothing is left, and exactly these records were written."""
    if host.libvirt.guests:
        host.libvirt.stop("win11", "shutdown")
    assert host.trail == list(trail)
    assert host.changed == []
    assert host.leftovers == []


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("has", [(), (DISK,)])
def test_a_card_comes_and_goes_twice(root: str, managed: bool, has: tuple[str, ...]) -> None:
    """On vfio-pci while the guest has it, on its driver otherwise; each step is recorded once, whoever binds."""
    host = running(root, *has)
    card = xml(NIC, managed=managed)
    for _ in range(2):
        assert attach(host, Hypervisor(host.libvirt), card) == ([f"win11: has pci {NIC} now"], "")
        assert host.driver(NIC) == "vfio-pci"
        assert detach(host, Hypervisor(host.libvirt), card) == ([f"win11: gave up pci {NIC}"], "")
        assert host.driver(NIC) == "e1000e"
    turns = [f"attach {NIC} success", f"detach {NIC} success"] * 2
    ended(host, *(f"start {one} success" for one in has), *turns, *(f"stop {one} success" for one in has))


@pytest.mark.parametrize("managed", [False, True])
def test_one_that_is_kept_until_the_end(root: str, managed: bool) -> None:
    """The guest's release gives it back and records its end."""
    host = running(root)
    attach(host, Hypervisor(host.libvirt), xml(NIC, managed=managed))
    ended(host, f"attach {NIC} success", f"stop {NIC} success")


def test_managed_after_it_was_unmanaged(root: str) -> None:
    """The same libvirtd takes it for unmanaged then and leaves it on vfio-pci; it comes back all the same."""
    host = running(root)
    for managed in (False, True):
        attach(host, Hypervisor(host.libvirt), xml(NIC, managed=managed))
        detach(host, Hypervisor(host.libvirt), xml(NIC, managed=managed))
        assert host.driver(NIC) == "e1000e"
    ended(host, *[f"attach {NIC} success", f"detach {NIC} success"] * 2)


def test_what_is_printed_is_what_is_done(root: str) -> None:
    """The dry run's lines are those that are logged, its writes those that are made, both ways; and it does nothing."""
    host = running(root, config='siblings = "bind"\n')
    for verb in (attach, detach):
        before, done = host.everything(), writes(host)
        said = verb(host, Hypervisor(host.libvirt), xml(GPU), dry_run=True)
        assert said.error == ""
        assert host.everything() == before
        logged = len(store.lines(f"{root}/var/log/libhook.jsonl"))
        assert verb(host, Hypervisor(host.libvirt), xml(GPU)).error == ""
        lines = [one["line"] for one in store.lines(f"{root}/var/log/libhook.jsonl")[logged:] if "line" in one]
        assert said.lines == lines
        shown = [f'  write "{value}" to {path}' for path, value in writes(host)[len(done) :]]
        assert sorted(line for line in said.lines if line.startswith("  write")) == sorted(
            line.replace("\n", "\\n") for line in shown
        )
        assert any(SOUND in line for line in said.lines)
    ended(host, f"attach {GPU} success", f"detach {GPU} success")


def test_the_rest_of_a_group_goes_with_the_last_of_it(root: str) -> None:
    """Taken along with the first, and kept while QEMU has the group open: no driver could have it before."""
    host = running(root, world=triple(), config='siblings = "bind"\n')
    for address in (ONE, TWO):
        assert attach(host, Hypervisor(host.libvirt), xml(address)).error == ""
    assert [host.driver(address) for address in (ONE, TWO, THREE)] == ["vfio-pci"] * 3
    assert detach(host, Hypervisor(host.libvirt), xml(ONE)).error == ""
    assert [host.driver(address) for address in (ONE, TWO, THREE)] == ["vfio-pci"] * 3
    assert attach(host, Hypervisor(host.libvirt), xml(ONE)).error == "", "it may have it back"
    for address in (TWO, ONE):
        assert detach(host, Hypervisor(host.libvirt), xml(address)).error == ""
    assert [host.driver(address) for address in (ONE, TWO, THREE)] == ["e1000e"] * 3
    turns = [f"attach {ONE}", f"attach {TWO}", f"detach {ONE}", f"attach {ONE}", f"detach {TWO}", f"detach {ONE}"]
    ended(host, *(f"{turn} success" for turn in turns))


@pytest.mark.parametrize("managed", [False, True])
def test_one_of_a_group_that_the_guest_began_with(root: str, managed: bool) -> None:
    """It goes, the other stays, and at the guest's end both are back."""
    host = Host(root, triple())
    three = Guest(devices=tuple(Assigned(address, managed) for address in (ONE, TWO, THREE)))
    host.libvirt.start(three)
    assert detach(host, Hypervisor(host.libvirt), xml(TWO, managed=managed)) == ([f"win11: gave up pci {TWO}"], "")
    ended(
        host,
        *(f"start {address} success" for address in (ONE, TWO, THREE)),
        f"detach {TWO} success",
        *(f"stop {address} success" for address in (ONE, THREE)),
    )


@pytest.mark.parametrize("how", ["refuses", "monitor", "ends"])
@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("has", [(), (DISK,)])
def test_libvirt_does_not_plug_it_in(root: str, how: str, managed: bool, has: tuple[str, ...]) -> None:
    """Whether it says so at once, QEMU does, or the guest ends meanwhile: the card is back, recorded failed once."""
    host = running(root, *has)
    done = attach(host, Hypervisor(host.libvirt, attach=how), xml(NIC, managed=managed))
    assert done.lines == []
    assert "told to fail" in done.error
    assert host.driver(NIC) == "e1000e"
    if host.libvirt.guests:
        host.libvirt.stop("win11", "shutdown")
    ends = [f"stop {one} success" for one in has]
    began = [f"start {one} success" for one in has]
    assert sorted(host.trail) == sorted([*began, f"attach {NIC} failed", *ends])
    assert (host.changed, host.leftovers) == ([], [])


def test_the_guest_ends_just_after(root: str) -> None:
    """Its release has seen to everything, and no record is begun for a guest that is gone."""
    host = running(root)
    done = attach(host, Hypervisor(host.libvirt, attach="ends after"), xml(NIC))
    assert "ended meanwhile" in done.error or "no domain" in done.error
    ended(host, f"attach {NIC} success", f"stop {NIC} success")


@pytest.mark.parametrize("had_it", [False, True])
@pytest.mark.parametrize("then", ["recover", "release", "attach"])
def test_libvirtd_does_not_answer_at_attach(root: str, had_it: bool, then: str) -> None:
    """Nobody knows how it ended: nothing is recorded, until whoever comes sees whether QEMU has it open."""
    host = running(root)
    done = attach(host, Hypervisor(host.libvirt, attach="no answer, had it" if had_it else "no answer, not"), xml(NIC))
    assert "it is not known whether win11 has it: when libvirtd answers again, run: libhook recover" in done.error
    assert (host.driver(NIC), host.trail) == ("vfio-pci", [])
    _forget_worker(host)
    if then == "recover":
        _recover(host)
        assert host.driver(NIC) == ("vfio-pci" if had_it else "e1000e")
        assert host.trail == [f"attach {NIC} {'success' if had_it else 'failed'}"]
    elif then == "attach":
        again = attach(host, Hypervisor(host.libvirt), xml(NIC))
        assert (f"the guest has pci {NIC} already" in again.error) == had_it
        assert host.trail[0] == f"attach {NIC} {'success' if had_it else 'failed'}"
        assert host.trail[1] == f"attach {NIC} {'failed' if had_it else 'success'}"
    host.libvirt.stop("win11", "shutdown")
    if then == "release":
        want = [f"attach {NIC} success", f"stop {NIC} success"] if had_it else [f"attach {NIC} failed"]
        assert host.trail == want
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("gave_it", [False, True])
@pytest.mark.parametrize("then", ["recover", "release", "detach"])
def test_libvirtd_does_not_answer_at_detach(root: str, gave_it: bool, then: str) -> None:
    """The same on the way back: nothing is taken from a guest that may have it."""
    host = running(root, NIC)
    done = detach(
        host, Hypervisor(host.libvirt, detach="no answer, gave it" if gave_it else "no answer, not"), xml(NIC)
    )
    assert f"it is not known whether win11 has pci {NIC}" in done.error
    assert (host.driver(NIC), host.trail) == ("vfio-pci", [f"start {NIC} success"])
    _forget_worker(host)
    if then == "recover":
        _recover(host)
        assert host.driver(NIC) == ("e1000e" if gave_it else "vfio-pci")
    elif then == "detach":
        said = "had given up" if gave_it else "gave up"
        assert f"win11: {said} pci {NIC}" in detach(host, Hypervisor(host.libvirt), xml(NIC)).lines[0]
    host.libvirt.stop("win11", "shutdown")
    seen = then == "detach" or (then == "recover" and gave_it)
    assert host.trail == [f"start {NIC} success", f"{'detach' if seen else 'stop'} {NIC} success"]
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kept", f"the guest win11 refuses to give up pci {NIC}"),
        ("silent", f"the guest win11 did not answer within 30 s; it keeps pci {NIC}"),
        ("refuses", "libvirt: operation failed: told to fail"),
    ],
)
def test_a_guest_that_keeps_it(root: str, how: str, said: str) -> None:
    """Said, recorded once as failed, and nothing is touched; it can be asked again."""
    host = running(root, NIC)
    before = writes(host)
    done = detach(host, Hypervisor(host.libvirt, detach=how), xml(NIC))
    assert done.error.startswith(said)
    assert writes(host) == before
    assert detach(host, Hypervisor(host.libvirt), xml(NIC)).error == ""
    ended(host, f"start {NIC} success", f"detach {NIC} failed", f"detach {NIC} success")


def test_an_answer_whose_event_is_lost(root: str) -> None:
    """The guest's XML says that it gave the card up."""
    host = running(root, NIC)
    assert detach(host, Hypervisor(host.libvirt, detach="late"), xml(NIC)) == ([f"win11: gave up pci {NIC}"], "")
    ended(host, f"start {NIC} success", f"detach {NIC} success")


@pytest.mark.parametrize("working", [False, True])
def test_what_another_client_plugged_out_unseen(root: str, working: bool) -> None:
    """libvirt leaves it on vfio: asked for it again, libhook gives it back; not while somebody is plugging it in."""
    host = running(root, NIC, DISK)
    hypervisor = Hypervisor(host.libvirt)
    host.libvirt.unplug("win11", NIC)
    if working:
        held = host.state.load(guest().uuid)
        assert held
        busy = (held.devices[0]._replace(plugging=processes.process(host.machine, host.libvirt.pid)), *held.devices[1:])
        host.state.save(held._replace(devices=busy))
    done = detach(host, hypervisor, xml(NIC))
    if working:
        assert done.error.startswith("the guest win11 has no such device")
        return
    assert done.lines == [f"win11: had given up pci {NIC} already; the host has it back"]
    assert host.trail[-1] == f"detach {NIC} success"
    assert detach(host, hypervisor, xml(NIC)).error.startswith("the guest win11 has no such device")
    assert host.driver(NIC) == "e1000e"
    assert host.driver(DISK) == "vfio-pci"


def test_the_guest_ends_while_it_is_asked(root: str) -> None:
    """Its release has given the card back and recorded that; no second end is."""
    host = running(root, NIC)
    done = detach(host, Hypervisor(host.libvirt, detach="ends"), xml(NIC))
    assert done == ([f"win11: ended meanwhile, so it no longer has pci {NIC}"], "")
    ended(host, f"start {NIC} success", f"stop {NIC} success")


def test_libvirtd_goes_away_after_the_guest_was_asked(root: str) -> None:
    """That it cannot be reached does not mean that the guest has given anything up."""
    host = running(root, NIC)
    assert "Failed to connect" in detach(host, Hypervisor(host.libvirt, detach="disconnected"), xml(NIC)).error
    assert host.driver(NIC) == "vfio-pci"
    ended(host, f"start {NIC} success", f"stop {NIC} success")


def test_libvirtd_goes_away_after_it_was_plugged_in(root: str) -> None:
    """The guest has it; recover, which sees that QEMU has it open, makes up for the record."""
    host = running(root)
    done = attach(host, Hypervisor(host.libvirt, attach="disconnected"), xml(NIC))
    assert done.error.startswith("win11 has it, but this is not recorded yet: libvirt: Failed to connect")
    _forget_worker(host)
    _recover(host)
    ended(host, f"attach {NIC} success", f"stop {NIC} success")


@pytest.mark.parametrize("live", [False, True])
def test_only_its_configuration(root: str, live: bool) -> None:
    """Without --live nothing is bound and nothing recorded, also while it runs; with both it is like --live."""
    host = running(root)
    hypervisor = Hypervisor(host.libvirt)
    done = attach(host, hypervisor, xml(NIC), config=True, live=live)
    assert done == ([f"win11: has pci {NIC} now" if live else "win11: added to its configuration"], "")
    assert hypervisor.asked == [("attach", CONFIG | LIVE * live)]
    assert (host.driver(NIC) == "vfio-pci") == live
    done = detach(host, hypervisor, xml(NIC), config=True, live=live)
    assert done == ([f"win11: gave up pci {NIC}" if live else "win11: removed from its configuration"], "")
    ended(host, *([f"attach {NIC} success", f"detach {NIC} success"] if live else []))


def test_a_guest_that_does_not_run(root: str) -> None:
    """Its configuration is changed, as virsh does; with --live that is refused."""
    host = Host(root, workstation())
    hypervisor = Hypervisor(host.libvirt)
    hypervisor.stopped.append(guest(NIC))
    assert attach(host, hypervisor, xml(NIC)).lines == ["win11: added to its configuration"]
    assert "the guest win11 does not run: leave out --live" in attach(host, hypervisor, xml(NIC), live=True).error
    assert detach(host, hypervisor, xml(NIC)).lines == ["win11: removed from its configuration"]
    assert hypervisor.asked == [("attach", CONFIG), ("detach", CONFIG)]
    ended(host)


def _forget_worker(host: Host) -> None:
    """The process that plugged is gone: in the tests it is this one."""
    held = host.state.load(UUID)
    assert held
    gone = tuple(d._replace(plugging=d.plugging and d.plugging._replace(start=1)) for d in held.devices)
    host.state.save(held._replace(devices=gone))


def _recover(host: Host) -> None:
    assert "is ended" in recover(host)
