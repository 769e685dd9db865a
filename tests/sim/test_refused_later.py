# SPDX-License-Identifier: LGPL-2.1-or-later
"""An action of each kind is done, and then something refuses the start; or it is to be undone, and that fails."""

from collections.abc import Callable, Sequence

import pytest
from aftermath import recover
from asking import PROGRAM, STATES, SWAPPINESS, make, running, settings, states
from cases import DISK, GPU, NIC, SOUND
from modules_out import OTHER
from mounting import DATA, mount
from scenario import Host, guest
from units import CUPS, SDDM

from libhook.facts.address import PciAddress
from libhook.facts.plan import Action
from libhook.kinds.kind import Outcome
from libhook.simulation import commands, faults, processes, systemd
from libhook.simulation.snapshot import differences, snapshot
from libhook.story.session import Session

WIN11 = guest(GPU, SOUND, NIC)
RUN = f'[run.screen]\ncommand = ["{PROGRAM}"]\nundo = ["{PROGRAM}", "back"]\n'
KWIN = 800
DESKTOP = f'"{SDDM}" = "down"\n'
ASKED = {
    "modules": (STATES["modules"][0], "module nvidia"),
    "units": (STATES["units"][0], f"unit {CUPS}"),
    "values": (STATES["values"][0], f"value {SWAPPINESS}"),
    "mounts": (STATES["mounts"][0], f"unit {DATA}"),
    "run": (RUN, "run screen"),
    "background": (f'[run.show]\ncommand = ["{PROGRAM}"]\nbackground = true\n', "run show"),
    "take_along": (f'[domains.win11]\ntake_along = ["{DISK}"]\n', DISK),
    "device": ("", GPU),
}
"""What the settings say, and the action or the device as the log has it."""
_WITHOUT_STATE = ("run", "background", "device", "take_along")
Refusing = Callable[[Host, pytest.MonkeyPatch], str]


def _host(root: str, kind: str) -> Host:
    host = make(root, "")
    if kind == "mounts":
        mount(root)
    return host


def _unbindable(host: Host, _patch: pytest.MonkeyPatch) -> str:
    """The last of the guest's devices does not go to vfio. What the line says of that."""
    faults.behave(host.root, "devices", NIC, refuses={"vfio-pci": "EBUSY"})
    return f"{NIC}: it is on no driver instead of vfio-pci"


def _anothers(host: Host, patch: pytest.MonkeyPatch) -> str:
    """Another guest has it, which nobody knew until something else was done."""
    host.begin(OTHER)
    host.state.disclaim(PciAddress.parse(NIC), OTHER.uuid)
    apply = Session.apply

    def late(session: Session, uuid: str, actions: Sequence[Action]) -> list[Outcome]:
        outcomes = apply(session, uuid, actions)
        session.state.claim(PciAddress.parse(NIC), OTHER.uuid)
        return outcomes

    patch.setattr(Session, "apply", late)
    return f"{NIC} is held by the guest other"


def _failing(host: Host, _patch: pytest.MonkeyPatch) -> str:
    """The last command fails."""
    commands.add(host.root, "/usr/bin/fail", status=3)
    return "the command fail has ended with status 3"


_LATER = {
    _unbindable: tuple(ASKED),
    _anothers: ("units", "mounts"),
    _failing: ("values", "run", "background"),
}
"""What may refuse after which kinds: devices come last, commands before units, and after these it looks again."""


@pytest.mark.parametrize(("refusing", "kind"), [(how, kind) for how, kinds in _LATER.items() for kind in kinds])
def test_what_was_done_for_a_guest_that_is_refused_is_undone(
    root: str, monkeypatch: pytest.MonkeyPatch, kind: str, refusing: Refusing
) -> None:
    """At once: nobody waits for libvirt's release."""
    host = _host(root, kind)
    systemd.add(root, SDDM, names=["display-manager.service"], process=KWIN)
    said = refusing(host, monkeypatch)
    asked, action = ASKED[kind]
    config = asked + '[run.fail]\ncommand = ["/usr/bin/fail"]\n' * (refusing is _failing)
    if refusing is _anothers:  # libhook looks again once the desktop is down
        processes.add(root, KWIN, "kwin", ["/dev/dri/card0"])
        config += DESKTOP if kind == "units" else f"[units]\n{DESKTOP}"
    host.configure(f"holder_wait = 0.3\n{config}")
    before, shared = snapshot(root), states(host)
    outcome = host.event(WIN11, "prepare")
    assert outcome.code == 1
    assert said in outcome.line
    done = [*(one.get("action") for one in outcome.logged("done")), *(one["device"] for one in outcome.logged("moved"))]
    assert action in done, "it was not even begun"
    assert differences(before, snapshot(root)) == []
    assert (states(host), running(host), systemd.state(root, SDDM)) == (shared, [], "active")
    assert kind != "run" or [PROGRAM, "back"] in [one["argv"] for one in commands.ran(root)]
    monkeypatch.undo()
    host.event(WIN11, "release", "failed")
    if refusing is _anothers:
        host.event(OTHER, "release", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("kind", ASKED)
def test_what_was_done_for_a_guest_that_is_refused_at_start_is_undone(root: str, kind: str) -> None:
    """Another guest has one of its devices by then; libvirt says release."""
    host = _host(root, kind)
    host.begin(OTHER)
    host.state.disclaim(PciAddress.parse(NIC), OTHER.uuid)
    host.configure(ASKED[kind][0])
    before, shared = snapshot(root), states(host)
    assert host.event(WIN11, "prepare").code == 0
    assert kind in _WITHOUT_STATE or states(host)[kind] == STATES[kind][1] != shared[kind]
    host.state.claim(PciAddress.parse(NIC), OTHER.uuid)
    assert f"{NIC} is held by the guest other" in host.event(WIN11, "start").line
    host.event(WIN11, "release", "failed")
    assert differences(before, snapshot(root)) == []
    assert (states(host), running(host)) == (shared, [])
    ran = {"run": [[], ["back"]], "background": [[]]}
    assert [one["argv"][1:] for one in commands.ran(root)] == ran.get(kind, [])
    host.event(OTHER, "release", "shutdown")
    assert (host.changed, host.leftovers) == ([], [])


@pytest.mark.parametrize("at", ["prepare", "release"])
def test_what_cannot_be_undone_is_said_and_all_else_is_undone(root: str, at: str) -> None:
    """In reverse: after each failure the next is undone. The value is tried again by recover, the unit is not."""
    host = make(root, settings(*STATES) + RUN)
    undone = range(2, 9)  # the first shows that the file takes its value back
    faults.inject(root, *(faults.Fault(f"set {SWAPPINESS} 60", nth, error="EINVAL") for nth in undone))
    systemd.change(root, CUPS, starts=False)
    if at == "prepare":
        faults.behave(root, "devices", NIC, refuses={"vfio-pci": "EBUSY"})
        outcome = host.event(WIN11, "prepare")
        assert (outcome.code, "it is on no driver instead of vfio-pci" in outcome.line) == (1, True)
    else:
        host.begin(WIN11)
        commands.add(root, PROGRAM, status=7)
        outcome = host.event(WIN11, "release", "shutdown")
    wrong = [entry for entry in outcome.log if entry["level"] == "error" and "action" in entry]
    said = {
        entry["action"]: entry.get("left") or entry["outcome"] for entry in wrong if entry["action"] != f"pci {NIC}"
    }
    expected = {
        f"unit {CUPS}": f"{CUPS} does not start: this says why: systemctl status {CUPS}",
        f"value {SWAPPINESS}": f'{SWAPPINESS} is "10" instead of "60" (Invalid argument)',
    }
    if at == "release":
        expected["run screen"] = "the command screen has ended with status 7: see journalctl -u libhook-undo-"
    assert said.keys() == expected.keys()
    assert all(said[key].startswith(text) for key, text in expected.items())
    back = [one["action"] for one in outcome.log if one.get("action") in {*expected, "run screen"}]
    assert back[-3:] == [f"unit {CUPS}", f"value {SWAPPINESS}", "run screen"]
    assert (host.changed, running(host)) == ([], [])
    assert states(host) == {
        **states(host),
        "modules": "nvidia nvidia_drm nvidia_modeset nvidia_uvm",
    }
    faults.heal(root)
    faults.behave(root, "devices", NIC, refuses={})
    if at == "prepare":
        host.event(WIN11, "release", "failed")
    recover(host)
    assert (states(host)["values"], host.leftovers) == ("60", [])
