# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes to /sys that do not return, and devices that somebody does not let go: it costs a start, not the host."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from calls import call, command, holding, pipes_and_sockets, shared_with_others, used_through_vfio, waiting_in
from conftest import Configure, MakeGuest
from guests import Guest, pci, virsh
from host import (
    NIC,
    NIC2,
    NIC5,
    NVME,
    PATIENCE,
    PCI,
    PF,
    SOUND,
    STATE,
    VFS,
    SysfsWrites,
    driver_of,
    override_of,
    wait_for,
)
from test_hotplug import answering, ours
from trail import expect_failed, expect_given, records
from watching import Watch

DEADLINE = 3
SLACK = 200
"""Seconds that a translated machine may take for all that is not waiting."""
CONTROL = "/dev/snd/controlC0"


@pytest.fixture(autouse=True)
def short_deadline(configure: Configure) -> None:
    """No event may take longer than this."""
    configure(f"write_deadline = {DEADLINE}\nholder_wait = 1\n")


@pytest.fixture
def control() -> Iterator[str]:
    """The sound card's control node, which udev makes after each bind; there again before the next test."""
    wait_for(CONTROL, lambda: os.path.exists(CONTROL))
    yield CONTROL
    wait_for(CONTROL, lambda: os.path.exists(CONTROL))


@pytest.fixture
def igb_again() -> Iterator[None]:
    """Puts the PF back on its driver, and makes its VFs anew."""
    yield
    if driver_of(PF) != "igb":
        (PCI / "drivers/igb/bind").write_text(PF)
        subprocess.run(["udevadm", "settle", "--timeout=600"], check=True)
    if not (PCI / "devices" / VFS[0]).exists():
        script = f". {Path(__file__).parent}/vfs.sh; make_vfs {PCI}/devices/{PF}"
        subprocess.run(["sh", "-ec", script], check=True, timeout=600)


def held_by(guest: Guest) -> list[str]:
    """The devices that libhook still holds for the guest, and which of them it knows to hang."""
    path = STATE / "domains" / f"{guest.uuid}.json"
    entry = json.loads(path.read_text()) if path.exists() else {"devices": [], "actions": []}
    taken = [action["device"] for action in entry["actions"]]
    return [
        f"{device['address']}{' hangs' if device['wedged'] else ''}"
        for device in entry["devices"]
        if device["address"] in taken
    ]


def end_of_write(function: str) -> None:
    """Whatever slept there has gone on."""
    wait_for("the end of the write that slept", lambda: not waiting_in(function))


@contextmanager
def pf_locked_by(one: Guest) -> Iterator[None]:
    """The PF's driver waits, with the PF's lock, for this guest, which has a VF. In the end the guest is destroyed."""
    with subprocess.Popen(["sh", "-c", f"echo {PF} >{PCI}/drivers/igb/unbind"]) as unbinding:
        wait_for("an unbind that sleeps", lambda: waiting_in("vfio_unregister_group_dev"))
        try:
            yield
            assert unbinding.poll() is None
        finally:
            one.destroy()  # the unbind goes on then, and not before
        unbinding.wait(PATIENCE)


def test_driver_that_never_lets_go(guest: MakeGuest, control: str) -> None:
    """The start is refused in time, with who is in the way; libvirtd answers, the rest is undone, recover settles it.

    snd_card_free() sleeps in state D until the last process has closed the card. What sleeps is one child, which has
    nothing open that libvirtd would wait for.
    """
    one = guest(pci(NIC), pci(SOUND))
    libvirtd = int(Path("/run/libvirtd.pid").read_text())
    with holding(control) as holder, ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        starting = pool.submit(one.start_refused)
        wait_for("a write that sleeps", lambda: waiting_in("snd_card_free"))
        [child] = waiting_in("snd_card_free")
        meanwhile = pipes_and_sockets(libvirtd)
        assert [pipe for pipe in meanwhile if pipe.startswith("pipe:")]
        assert pipes_and_sockets(child) & shared_with_others(child) == set()
        virsh("net-list")
        virsh("list")  # waits for the guest's lock, which libvirtd has while its hook runs
        said = starting.result(DEADLINE + SLACK)
        assert DEADLINE < time.monotonic() - began < DEADLINE + SLACK
        assert f"{SOUND} hangs" in said
        assert f"it is in use by sleep (pid {holder.pid}, {control}): stop what uses it, then run: libhook re" in said
        assert waiting_in("snd_card_free") == [child]
        assert (driver_of(NIC), override_of(NIC), driver_of(SOUND)) == ("e1000e", None, None)
        assert held_by(one) == [f"{SOUND} hangs"]
        expect_failed(one)
        again = guest(pci(SOUND, managed=True)).start_refused()
        assert f"{SOUND} does not answer: its driver is still busy" in again
        virsh("list")
        assert [verb for verb in ("status", "devices") if SOUND not in command(verb).said] == []
        assert command("recover").code == 1
        assert re.search(rf"a write to {SOUND} .*has not ended yet", command("doctor").said)
        assert waiting_in("snd_card_free") == [child]
    end_of_write("snd_card_free")
    answer = command("recover")
    assert (answer.code, answer.said) == (0, f"{one.name}: given back")
    assert (driver_of(SOUND), override_of(SOUND), held_by(one)) == ("snd_hda_intel", None, [])


@pytest.mark.rest
def test_next_start_settles_what_hung(guest: MakeGuest, control: str, configure: Configure) -> None:
    """With bind_managed a managed device costs no more either; who wants it next, once it answers, is given it."""
    configure(f"write_deadline = {DEADLINE}\nbind_managed = true\n")
    one, other = guest(pci(SOUND, managed=True)), guest(pci(SOUND), pci(NIC))
    with holding(control) as holder:
        refused = call(one, "prepare")
        assert refused.code == 1
        assert f"sleep (pid {holder.pid}, {control})" in refused.said
        assert refused.seconds < DEADLINE + SLACK
        assert call(one, "release", "failed").code == 0
        assert call(other, "prepare").code == 1
        assert (held_by(one), held_by(other)) == ([f"{SOUND} hangs"], [])
    end_of_write("snd_card_free")
    assert call(other, "prepare").code == 0
    assert (driver_of(SOUND), driver_of(NIC), held_by(one)) == ("vfio-pci", "vfio-pci", [])
    assert call(other, "release", "failed").code == 0
    assert (driver_of(SOUND), override_of(SOUND)) == ("snd_hda_intel", None)


@pytest.mark.rest
@pytest.mark.usefixtures("igb_again")
def test_pf_that_hangs_under_the_administrators_hands(guest: MakeGuest) -> None:
    """An unbind of a PF waits for the guest that has its VF: the PF is refused, and other VFs are not disturbed.

    Each command answers, and says which device does not.
    """
    one = guest(pci(VFS[0])).start()
    expect_given(one)
    with pf_locked_by(one):
        for managed in (False, True):
            refused = guest(pci(NIC), pci(PF, managed)).start_refused()
            assert f"{PF} does not answer" in refused
        other = guest(pci(VFS[1]), pci(NIC))
        assert call(other, "prepare").code == 0
        assert call(other, "release", "failed").code == 0
        assert (driver_of(VFS[1]), driver_of(NIC)) == ("igbvf", "e1000e")
        virsh("list")
        shown = command("devices")
        silent = {word for line in shown.said.splitlines() if "does not answer" in line for word in line.split()}
        # Some kernels show the override of the VF whose unbind sleeps, and some wait for it.
        assert {PF} <= {word for word in silent if word.startswith("0000:")} <= {PF, VFS[0]}
        for words in (
            ("status",),
            ("doctor",),
            ("recover", "--dry-run"),
            ("inspect", one.name),
            ("plan", one.name),
            ("accept", one.name, "--dry-run"),
            ("config",),
            ("config", one.name),
            ("handlers",),
            ("history",),
        ):
            assert command(*words).said, words
        for verb in ("devices", "status"):
            assert json.loads(command(verb, "--json").said)
    assert (driver_of(PF), (PCI / "devices" / VFS[0]).exists()) == (None, False)
    wait_for("the end of the entry", lambda: not held_by(one))
    assert [record.result for record in records(one, "stop", ours=True)] == ["success"]


@pytest.mark.rest
@pytest.mark.usefixtures("igb_again")
def test_other_guests_while_a_pf_does_not_answer(guest: MakeGuest, configure: Configure) -> None:
    """Others start, plug in and out, and end; the watch goes on, and records what virsh plugs."""
    configure("write_deadline = 20\n")  # nobody here waits for the PF
    one, other = guest(pci(VFS[0])).start(), answering(guest, pci(NIC2))
    # libvirt gives a managed card back only if the same libvirtd never had it unmanaged, as no other test has NIC5
    plugged = (("virsh", pci(NIC5, managed=True)), ("libhook", pci(NIC)))
    with Watch() as watch, pf_locked_by(one):
        other.start()
        for by, card in plugged:
            other.plug("attach", card, by=by)
            other.plug("detach", card, by=by)
        watch.told.clear()
        watch.wait_until_told("WATCHDOG=1")
        other.destroy()
        other.wait_until_gone()
        wait_for("the cards on their driver", lambda: {driver_of(card) for card in (NIC, NIC2, NIC5)} == {"e1000e"})
    expected = [
        ("start", NIC2),
        *((verb, card.record) for _, card in plugged for verb in ("attach", "detach")),
        ("stop", NIC2),
    ]
    wait_for("all records", lambda: sorted(ours(other)) == sorted((*one, "success") for one in expected))


@pytest.mark.rest
def test_give_back_of_a_device_in_use_unseen(guest: MakeGuest) -> None:
    """A process that has the device, and no node of it any more, shows in no list: vfio says so all the same."""
    one = guest(pci(NIC))
    assert call(one, "prepare").code == 0
    with used_through_vfio(NIC, hidden=True):
        answer = call(one, "release", "destroyed")
        assert (answer.code, answer.said) == (0, "")
        assert answer.seconds < DEADLINE + SLACK
        assert (driver_of(NIC), held_by(one), waiting_in("vfio_unregister_group_dev")) == ("vfio-pci", [NIC], [])
        assert f"{NIC} is in use by a process that does not show it (/dev/vfio/" in command("recover").said
    assert command("recover").code == 0
    assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)


@pytest.mark.rest
def test_give_back_of_a_device_in_use(guest: MakeGuest) -> None:
    """A device that a process is seen to use is not written to; who it is, is said."""
    one = guest(pci(NIC))
    assert call(one, "prepare").code == 0
    with used_through_vfio(NIC, hidden=False):
        assert call(one, "release", "destroyed").code == 0
        assert (driver_of(NIC), held_by(one)) == ("vfio-pci", [NIC])
        assert f"(pid {os.getpid()}, /dev/vfio/" in command("status").said
        assert command("recover").code == 0
        assert driver_of(NIC) == "vfio-pci"
    assert command("recover").said == f"{one.name}: given back"
    assert (driver_of(NIC), override_of(NIC)) == ("e1000e", None)


@pytest.mark.rest
def test_process_with_a_device_open(guest: MakeGuest, configure: Configure) -> None:
    """It is waited for, then named, and nothing is written; once it has closed the device the start goes on."""
    one = guest(pci(NIC), pci(NVME))
    node = f"/dev/{next((PCI / 'devices' / NVME / 'nvme').iterdir()).name}"
    with holding(node) as holder, SysfsWrites() as writes:
        said = one.start_refused()
        assert writes.seen() == []
        assert f"{NVME} is in use by the host: it is open in sleep (pid {holder.pid}, {node}): stop " in said
    expect_failed(one, pci(NVME))
    configure("holder_wait = 20\n")
    with holding(node) as holder:
        Timer(3, holder.kill).start()
        answer = call(one, "prepare")
        assert (answer.code, answer.said) == (0, "")
    assert (driver_of(NIC), driver_of(NVME)) == ("vfio-pci", "vfio-pci")
    assert call(one, "release", "failed").code == 0
