# SPDX-License-Identifier: LGPL-2.1-or-later
"""The virtual consoles around a module that shows them: what is written, what is believed, and what comes back."""

import errno
import os
import time
from pathlib import Path
from typing import NoReturn

import pytest
from cases import GPU
from modules_out import ALL, CONSOLE, OTHER, WIN11, host_with, loaded, shown
from scenario import Host, reap

from libhook.children import tracks
from libhook.children.child import Deadline
from libhook.errors import KERNEL_LOG, BadInput
from libhook.kinds import registry
from libhook.kinds.module import consoles as module_consoles
from libhook.kinds.module.consoles import Consoles, resource
from libhook.simulation import consoles, faults, hosts, modules, store
from libhook.simulation.faults import Fault

GONE = "(S) dummy device: 1"
CALL = "write class/vtconsole/vtcon1/bind {}"


def _written(host: Host) -> list[str]:
    lines = store.lines(f"{host.root}/var/log/writes.jsonl")
    return [f"{line['path'].split('/')[-2]} {line['value']}" for line in lines if "vtconsole" in line["path"]]


def test_only_fbcon_is_unbound_and_it_comes_back_by_itself(root: str) -> None:
    """A write to the system's own driver would do nothing. With the framebuffer fbcon takes the consoles again."""
    host = host_with(root)
    host.begin(WIN11)
    assert (_written(host), shown(host)) == (["vtcon1 0"], GONE)
    host.event(WIN11, "release", "shutdown")
    assert (_written(host), shown(host), host.leftovers) == (["vtcon1 0"], CONSOLE, [])


def test_a_module_without_a_framebuffer_leaves_them_alone(root: str) -> None:
    """Of the same card, when it shows nothing."""
    host = Host(root, hosts.nvidia(), ALL)
    host.begin(WIN11)
    host.event(WIN11, "release", "shutdown")
    assert (_written(host), host.changed, host.leftovers) == ([], [], [])


def test_the_kernel_s_refusal_of_the_module_is_why(root: str) -> None:
    """fbcon has a reference as long as they are bound: without that, rmmod fails."""
    host = host_with(root)
    assert store.read(f"{root}/sys/module/nvidia_drm/refcnt") == "1\n"
    host.machine.kernel.write("class/vtconsole/vtcon0/bind", "0")
    assert (shown(host), modules.users(root, "nvidia_drm")) == (CONSOLE, 1)
    host.machine.kernel.write("class/vtconsole/vtcon1/bind", "0")
    assert (shown(host), modules.users(root, "nvidia_drm")) == ("(M) frame buffer device: 0, (S) dummy device: 1", 0)
    assert store.read(f"{root}/sys/module/nvidia_drm/refcnt") == "0\n"


@pytest.mark.parametrize(
    ("fault", "why"), [(Fault("", ignored=True), ""), (Fault("", error="EIO"), " (Input/output error)")]
)
def test_what_stays_bound_is_a_refusal(root: str, fault: Fault, why: str) -> None:
    """A success proves nothing; and no module is touched."""
    host = host_with(root)
    before = loaded(host)
    faults.inject(root, fault._replace(call=CALL.format(0)))
    refused = host.event(WIN11, "prepare")
    stays = f"the virtual consoles stay bound to a framebuffer{why}: {KERNEL_LOG}"
    assert refused.line == stays
    assert [one["action"] for one in refused.logged("not done")] == ["consoles"]
    assert (loaded(host), host.changed) == (before, [])
    host.event(WIN11, "release", "failed")
    assert host.leftovers == []


def test_a_refusal_after_that_binds_them_again(root: str) -> None:
    """The module is in use by what nobody sees: it stays, and so does its framebuffer."""
    host = host_with(root)
    modules.use(root, "nvidia_drm", 1)
    assert "the module nvidia_drm is in use" in host.event(WIN11, "prepare").line
    assert (_written(host), shown(host), host.changed) == (["vtcon1 0", "vtcon1 1"], CONSOLE, [])


def test_what_is_not_bound_again_is_reported_once(root: str) -> None:
    """Nothing more can be done; the rest is as it was."""
    host = host_with(root)
    modules.use(root, "nvidia_drm", 1)
    faults.inject(root, Fault(CALL.format(1), ignored=True))
    refused = host.event(WIN11, "prepare")
    bind = "for name in $(grep -l 'frame buffer' /sys/class/vtconsole/*/name); do echo 1 >${name%name}bind; done"
    assert f"the virtual consoles are not bound again: to bind them, run: {bind}" in [
        entry.get("left") for entry in refused.log
    ]
    host.event(WIN11, "release", "failed")
    assert (host.leftovers, host.driver(GPU)) == ([], "nvidia")


def test_what_was_unbound_stays_so(root: str) -> None:
    """The administrator wanted that. fbcon takes them when the framebuffer is back, and that is no fault."""
    host = host_with(root)
    host.somebody_writes("class/vtconsole/vtcon1/bind", "0")
    before = shown(host)
    modules.use(root, "nvidia_drm", 1)
    host.event(WIN11, "prepare")
    assert (shown(host), _written(host)) == (before, ["vtcon1 0"])
    modules.use(root, "nvidia_drm", 0)
    host.begin(WIN11)
    ended = host.event(WIN11, "release", "shutdown")
    assert (shown(host), [entry for entry in ended.log if "left" in entry], host.leftovers) == (CONSOLE, [], [])


def _two_cards(root: str) -> Host:
    """The other card has a framebuffer too, and its module is another's."""
    base = hosts.nvidia(console=True)
    other = base.devices[1]._replace(children=(("graphics", "fb1"),))
    world = base._replace(devices=tuple(other if one.address == other.address else one for one in base.devices))
    return Host(root, world, f'{ALL}[domains.other]\nreplace = true\nmodules = ["e1000e"]\n')


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_two_guests_with_a_framebuffer_each(root: str, first_to_end: int) -> None:
    """fbcon stays while one framebuffer is left. They are unbound until the last of the guests has ended."""
    host, guests = _two_cards(root), [WIN11, OTHER]
    unbound = "(M) frame buffer device: 0, (S) dummy device: 1"
    host.begin(WIN11)
    assert shown(host) == unbound
    host.begin(OTHER)
    assert shown(host) == GONE
    host.event(guests.pop(first_to_end), "release", "shutdown")
    assert shown(host) == unbound
    host.event(guests.pop(), "release", "shutdown")
    assert (shown(host), host.changed, host.leftovers) == (CONSOLE, [], [])


def test_who_binds_them_meanwhile_is_told_nothing(root: str) -> None:
    """They are as they were before; a guest that needs them unbound unbinds them again."""
    host = _two_cards(root)
    host.begin(WIN11)
    host.somebody_writes("class/vtconsole/vtcon1/bind", "1")
    host.begin(OTHER)
    assert shown(host) == GONE
    host.event(WIN11, "release", "shutdown")
    host.event(OTHER, "release", "shutdown")
    assert (shown(host), host.changed, host.leftovers) == (CONSOLE, [], [])


def _read(host: Host) -> object:
    (value,) = tracks.run([resource(host.machine).read()], Deadline.after(60))
    return value


def test_fbcon_that_comes_late_is_waited_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from a work queue, once there is a framebuffer."""
    monkeypatch.setattr(module_consoles, "_FOR_FBCON", 60)
    host = host_with(root)
    folder = Path(root, "sys/class/vtconsole/vtcon1")
    folder.rename(f"{root}/later")
    if os.fork() == 0:
        time.sleep(0.3)
        os.rename(f"{root}/later", folder)
        os._exit(0)
    assert _read(host) == "(M) frame buffer device"
    assert reap(60)


def test_fbcon_that_does_not_come_is_not_waited_for_long(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be configured to take the consoles at the first text only."""
    monkeypatch.setattr(module_consoles, "_FOR_FBCON", 0.2)
    host = host_with(root)
    Path(root, "sys/class/vtconsole/vtcon1").rename(f"{root}/never")
    began = time.monotonic()
    assert _read(host) == "unbound"
    assert time.monotonic() - began >= 0.2


def test_consoles_that_cannot_be_read_are_a_refusal(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what would come back."""
    host = host_with(root)
    before = loaded(host)

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module_consoles, "_bound", fail)
    said = host.event(WIN11, "prepare").line
    assert f"the virtual consoles cannot be read (Input/output error): {KERNEL_LOG}" in said
    assert (loaded(host), host.changed) == (before, [])


def test_the_journal_says_that_they_are_unbound() -> None:
    """And nothing else is such an entry."""
    one = Consoles(("x is free",))
    assert registry.read(one.to_json()) == Consoles()
    assert (one.provides, one._replace(back=True).provides) == (("consoles unbound",), ())
    assert (one.summary, one._replace(back=True).summary) == ("unbound", "given back")
    with pytest.raises(BadInput, match="not the virtual consoles"):
        registry.read({"kind": "module", "consoles": "bound"})


def test_what_is_absent_is_neither_bound_nor_unbound(root: str) -> None:
    """Without a framebuffer there is no fbcon."""
    reached = resource(host_with(root).machine).reached
    assert (reached("unbound", "absent"), reached("(M) a", "absent")) == (True, True)
    assert (reached("(M) a; (M) b", "(M) a"), reached("(M) a", "(M) a; (M) b")) == (False, True)
    assert (reached("absent", "unbound"), reached("unbound", "(M) a")) == (True, False)
    assert not consoles.bound(f"{root}/nowhere")
