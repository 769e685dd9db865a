# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules that are out of the kernel while a guest runs: ``modules`` in the settings."""

import json
from pathlib import Path
from unittest import mock

import overdue
import pytest
from cases import GPU, NIC, SOUND
from command import libhook
from modules_out import ALL, CONSOLE, DEVICE, OTHER, STACK, THIRD, UVM, WIN11, host_with, loaded, shown
from plugging import detach, xml
from scenario import Host, guest
from units import SDDM

from libhook.children.child import Deadline
from libhook.children.tracks import Pause
from libhook.facts.config import Config
from libhook.kinds import module
from libhook.kinds.kind import Work
from libhook.kinds.module import unloading
from libhook.simulation import faults, modules, processes, systemd
from libhook.simulation.faults import Fault
from libhook.simulation.hypervisor import Hypervisor
from libhook.simulation.world import Device, Driver, World

GONE = "(S) dummy device: 1"
ORDER = ["nvidia_drm", "nvidia_modeset", "nvidia_uvm", "nvidia"]


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize(
    "config", [ALL, DEVICE, 'modules = ["device:10de:2684"]', f'modules = ["device:{GPU}", "nvidia"]']
)
def test_they_are_out_while_the_guest_lives(root: str, config: str, managed: bool) -> None:
    """Whoever binds the card. They go before it is moved, and are back after; the consoles go first and come last."""
    host = host_with(root, config)
    before, one = loaded(host), guest(GPU, SOUND, managed=managed)
    foretold = host.call(("win11", "prepare", "begin", "-"), one.xml(1, False), dry_run=True)
    assert [line.split(" (")[0] for line in foretold.stderr if line.startswith(("take", "unbind", GPU))] == [
        "unbind the virtual consoles",
        *(f"take the module {name} out" for name in ORDER),
        f"{GPU}: nvidia -> vfio-pci",
    ]
    assert (loaded(host), shown(host), host.changed) == (before, CONSOLE, [])
    assert host.libvirt.start(one).error == ""
    assert before - loaded(host) == {*STACK}
    assert (host.driver(GPU), shown(host)) == ("vfio-pci", GONE)
    status = libhook(host, "status").out
    assert all(line in status for line in ("module nvidia_drm  taken out", "consoles  unbound"))
    next_time = libhook(host, "plan", "-", stdin=one.xml(1, False)).out
    assert [line.split()[3] for line in next_time.splitlines() if line.startswith("take the module")] == ORDER
    assert f"{GPU}: nvidia -> vfio-pci" in next_time
    host.libvirt.stop("win11", "shutdown")
    assert (loaded(host), host.driver(GPU), shown(host)) == (before, "nvidia", CONSOLE)
    assert host.changed == []
    assert host.trail == [f"{what} {device} success" for what in ("start", "stop") for device in (GPU, SOUND)]
    assert host.leftovers == []


def test_the_dry_run_says_why_and_the_plan_is_data(root: str) -> None:
    """What holds the module that drives the card goes with it."""
    host = host_with(root, DEVICE)
    shown = json.loads(libhook(host, "plan", "-", "--json", stdin=WIN11.xml(1, False)).out)["actions"]
    assert [one["unbound"] for one in shown if one["action"] == "consoles"] == [True]
    assert {one["module"]: one["why"] for one in shown if one["action"] == "module"} == {
        "nvidia": f"drives {GPU}",
        "nvidia_modeset": "needs nvidia",
        "nvidia_drm": "needs nvidia_modeset",
        "nvidia_uvm": "needs nvidia",
    }
    host.begin(WIN11)
    ended = host.event(WIN11, "release", "shutdown")
    assert [line for line in ended.plan if not line.startswith(" ") and ("give" in line or GPU in line)][:2] == [
        f"{GPU}: vfio-pci -> nvidia (give back, its driver is out of the kernel until then)",
        f"{SOUND}: vfio-pci -> snd_hda_intel (give back)",
    ]
    assert [path for path, _ in ended.writes if "probe" in path] == ["bus/pci/drivers_probe"], "of the sound alone"


@pytest.mark.parametrize("first_to_end", [0, 1, 2])
def test_who_ends_first_leaves_the_others_without(root: str, first_to_end: int) -> None:
    """The card is given back, and that is recorded, though its driver comes with the last guest that needs it out."""
    host, guests = host_with(root), [WIN11, OTHER, THIRD]
    before = loaded(host)
    for one in guests:
        assert host.libvirt.start(one).error == ""
    for one in (guests.pop(first_to_end), guests.pop()):
        host.libvirt.stop(one.name, "shutdown")
        assert before - loaded(host) == {*STACK}
    assert host.driver(GPU) == ("vfio-pci" if WIN11 in guests else "none")
    host.libvirt.stop(guests.pop().name, "shutdown")
    assert (loaded(host), host.driver(GPU), shown(host), host.changed) == (before, "nvidia", CONSOLE, [])
    assert sorted(line for line in host.trail if line.startswith("stop")) == [
        f"stop {device} success" for device in sorted((NIC, GPU, SOUND, "0000:04:00.0"))
    ]
    assert host.leftovers == []


def test_what_was_not_loaded_or_is_no_module_is_not_missed(root: str) -> None:
    """A list may name what is loaded at times only."""
    host = host_with(root, 'modules = ["i2c-nvidia-gpu", "nouveau"]')
    before = loaded(host)
    begun = host.event(OTHER, "prepare")
    assert "keep the module nouveau out: it is not loaded" in begun.plan
    assert not any("rmmod" in line for line in begun.plan)
    for operation in ("start", "started"):
        host.event(OTHER, operation)
    host.event(OTHER, "release", "shutdown")
    assert (loaded(host), shown(host), host.leftovers) == (before, CONSOLE, [])


def test_what_is_taken_along_is_the_guest_s_too(root: str) -> None:
    """The sound of the card, with consent."""
    host = host_with(root, '[domains.win11]\nsiblings = "bind"\nmodules = ["snd_hda_intel"]')
    host.begin(guest(GPU))
    assert "snd_hda_intel" not in loaded(host)
    assert (host.driver(GPU), host.driver(SOUND)) == ("vfio-pci", "vfio-pci")
    host.event(WIN11, "release", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


def test_what_is_in_use_is_waited_for_then_refused(root: str) -> None:
    """All is as before, and the desktop is back; the card was never touched."""
    host = host_with(root, f'{ALL}units."{SDDM}" = "down"')
    systemd.add(root, SDDM)
    before = loaded(host)
    modules.use(root, "nvidia", 1)
    refused = host.event(WIN11, "prepare")
    assert f"{GPU}: the module nvidia is in use: stop what uses it, then start the guest again" in refused.line
    assert [one["action"] for one in refused.logged("done")][:3] == [f"unit {SDDM}", "consoles", "module nvidia_drm"]
    assert (loaded(host), shown(host), host.changed, systemd.state(root, SDDM)) == (before, CONSOLE, [], "active")
    modules.use(root, "nvidia", 0)
    host.begin(WIN11)


def test_a_desktop_that_goes_down_frees_them(root: str) -> None:
    """The unit goes first, whatever the order in the settings, and the modules after it."""
    host = host_with(root, f'{ALL}units."{SDDM}" = "down"')
    processes.add(root, 800, "Xorg")
    processes.open_file(root, 800, "/dev/dri/card0")
    systemd.add(root, SDDM, process=800)
    host.begin(WIN11)
    assert not loaded(host).intersection(STACK)
    host.event(WIN11, "release", "shutdown")
    assert (host.changed, systemd.state(root, SDDM), host.leftovers) == ([], "active", [])


def test_a_deadline_that_passes_while_it_is_in_use(root: str) -> None:
    """Who waits has no more time than the event."""
    host = host_with(root, ALL)
    host.configure(ALL.replace("holder_wait = 0.3", "holder_wait = 600\nwrite_deadline = 600"))
    modules.use(root, "nvidia_drm", 3)

    def late(seconds: float) -> Pause:
        overdue.when(lambda: True)
        return Pause(seconds)

    with mock.patch("libhook.kinds.module.unloading.Pause", late):
        assert "the module nvidia_drm is in use" in host.event(WIN11, "prepare").line
    host.configure(ALL)  # the end may take its time
    host.event(WIN11, "release", "failed")
    assert (host.changed, host.leftovers) == ([], [])


def test_a_module_that_does_not_load_keeps_the_device_in_the_trail(root: str) -> None:
    """The stop has failed, since the card has no driver; recover makes up for both."""
    host = host_with(root)
    before = loaded(host)
    assert host.libvirt.start(WIN11).error == ""
    faults.inject(root, Fault("load nvidia*", nth=0, error="ENOEXEC"))
    host.libvirt.stop("win11", "shutdown")
    assert host.driver(GPU) == "none"
    assert host.trail[2:] == [f"stop {GPU} failed", f"stop {SOUND} success"]
    assert "the module nvidia cannot be loaded again" in libhook(host, "recover").err
    faults.heal(root)
    assert libhook(host, "recover").code == 0
    assert (loaded(host), host.driver(GPU), host.changed, host.leftovers) == (before, "nvidia", [], [])
    assert host.trail[4:] == [f"stop {GPU} success"]


def test_a_driver_that_refuses_the_device_is_said(root: str) -> None:
    """The module is back, and the card is looked at again after that."""
    host = host_with(root)
    assert host.libvirt.start(WIN11).error == ""
    faults.behave(root, "devices", GPU, refuses={"nvidia": "EIO"})
    host.libvirt.stop("win11", "shutdown")
    assert host.trail[2:] == [f"stop {GPU} failed", f"stop {SOUND} success"]
    assert f"{GPU}: it is on no driver instead of nvidia" in libhook(host, "recover").err
    faults.behave(root, "devices", GPU, refuses={})
    assert libhook(host, "recover").code == 0
    assert (host.changed, host.leftovers) == ([], [])


def test_a_card_that_cannot_be_looked_at_again_is_not_back(root: str) -> None:
    """Nobody knows whether its driver took it. Recover looks again."""
    host = host_with(root)
    assert host.libvirt.start(WIN11).error == ""
    strange = f"/sys/bus/pci/devices/{GPU}/physfn"
    faults.inject(root, Fault("load nvidia_drm", after=(("create", strange),)))
    host.libvirt.stop("win11", "shutdown")
    assert host.trail[2:] == [f"stop {GPU} failed", f"stop {SOUND} success"]
    Path(f"{root}{strange}").unlink()
    assert libhook(host, "recover").code == 0
    assert host.trail[4:] == [f"stop {GPU} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_recover_brings_back_what_no_entry_names(root: str) -> None:
    """Somebody removed the guest's entry. Where the card belongs is not known any more, but the modules are."""
    host = host_with(root)
    before = loaded(host)
    host.begin(WIN11)
    host.state.forget(WIN11.uuid)
    said = libhook(host, "recover").out
    assert "the virtual consoles: what a guest without a journal entry wanted is undone" in said
    assert (loaded(host), host.leftovers) == (before, [])


@pytest.mark.parametrize("override", ["vfio-pci", "nvidia", "snd_hda_intel"])
def test_an_override_of_the_administrator_comes_back(root: str, override: str) -> None:
    """Where it keeps the driver away, loading the module does not bring the card back: libhook does."""
    host = host_with(root)
    host.somebody_writes(f"bus/pci/devices/{GPU}/driver_override", override)
    before = dict.fromkeys(host.changed)
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    assert (dict.fromkeys(host.changed), host.driver(GPU), host.leftovers) == (before, "nvidia", [])


def test_somebody_loads_them_meanwhile(root: str) -> None:
    """The card stays with the guest, and goes back to its driver directly."""
    host = host_with(root)
    before = loaded(host)
    host.begin(WIN11)
    host.machine.kernel.load("nvidia")
    assert host.driver(GPU) == "vfio-pci"
    host.event(WIN11, "release", "shutdown")
    assert (loaded(host), host.changed, host.leftovers) == (before, [], [])


def test_a_device_that_comes_after_the_plan_keeps_the_module(root: str) -> None:
    """It would lose its driver."""
    host = host_with(root, "")
    host.begin(OTHER)
    work = Work(host.machine, host.state, Deadline.after(200), Config(), OTHER.uuid)
    (outcome,) = module.carry_out(work, [unloading.out("snd_hda_intel")])
    assert outcome.failure
    assert outcome.failure.reason == f"the module snd_hda_intel also drives {SOUND}, and the guest does not get that"
    assert "snd_hda_intel" in loaded(host)


def test_a_device_is_plugged_out_while_its_driver_is_out(root: str) -> None:
    """It is home without it, and gets it when the guest has ended."""
    host = host_with(root)
    assert host.libvirt.start(WIN11).error == ""
    for address in (GPU, SOUND):
        assert detach(host, Hypervisor(host.libvirt), xml(address)) == ([f"win11: gave up pci {address}"], "")
    assert (host.driver(GPU), host.driver(SOUND)) == ("none", "snd_hda_intel")
    assert not loaded(host).intersection(STACK)
    host.libvirt.stop("win11", "shutdown")
    assert host.trail[2:] == [f"detach {GPU} success", f"detach {SOUND} success"]
    assert (host.changed, host.leftovers) == ([], [])


def test_a_guest_that_only_shares_a_module_without_devices(root: str) -> None:
    """Nobody's card, and no console, is touched."""
    host = host_with(root, UVM)
    host.begin(OTHER)
    host.begin(THIRD)
    assert ("nvidia_uvm" in loaded(host), shown(host)) == (False, CONSOLE)
    host.event(OTHER, "release", "shutdown")
    host.event(THIRD, "release", "shutdown")
    assert ("nvidia_uvm" in loaded(host), host.changed, host.leftovers) == (True, [], [])


def test_a_driver_of_two_devices_of_the_guest(root: str) -> None:
    """Both are the guest's, and both come back."""
    driver = Driver("e1000e", ids=("8086:10d3",))
    devices = tuple(Device(address, "e1000e", group) for address, group in ((NIC, 1), ("0000:02:00.0", 2)))
    host = Host(root, World(devices, (driver,)), 'modules = ["device"]')
    one = guest(NIC, "0000:02:00.0")
    host.begin(one)
    assert loaded(host) == set()
    host.event(one, "release", "shutdown")
    assert (loaded(host), host.changed, host.leftovers) == ({"e1000e"}, [], [])
