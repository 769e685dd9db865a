# SPDX-License-Identifier: LGPL-2.1-or-later
"""By which names ``libhook recover --give-up`` knows a thing, and what it says where another process was faster."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cases import NIC
from command import Done, libhook
from giving_up import SET, SWAPPINESS, WIN11, leave, paste, stuck, value_host
from modules_out import UVM
from modules_out import WIN11 as OF_STACK
from modules_out import host_with as with_modules
from mounting import DATA, MOUNTS, mount
from scenario import Host

from libhook.command import givingup
from libhook.simulation import faults, store, systemd
from libhook.simulation.hosts import workstation
from libhook.story import giveup
from libhook.story.session import Session, make_state


def test_a_mount_point_is_given_up_by_its_path(root: str) -> None:
    """libhook itself calls it by its unit."""
    host = Host(root, workstation(), MOUNTS)
    mount(root)
    host.begin(WIN11)
    leave(host, WIN11.uuid)
    done = libhook(host, "recover", "--give-up", "/srv/data", "--dry-run")
    assert done.out == f"win11: unit {DATA} would be given up: it stays as it is\n"


def test_a_unit_is_given_up_by_its_alias(root: str) -> None:
    """A name that is nobody's gives up nothing."""
    settings = "display-manager.service"
    host = Host(root, workstation(), f'[units]\n"{settings}" = "down"\n')
    systemd.add(root, "sddm.service", names=["display-manager.service"])
    host.begin(WIN11)
    leave(host, WIN11.uuid)
    done = libhook(host, "recover", "--give-up", settings, "--dry-run")
    assert (done.code, done.out) == (0, "win11: unit sddm.service would be given up: it stays as it is\n")
    nobody = libhook(host, "recover", "--give-up", "nobody.service", "--dry-run")
    assert (nobody.code, nobody.err.startswith("libhook holds nothing called nobody.service")) == (1, True)


def test_a_module_is_given_up_by_the_name_that_the_settings_have(root: str) -> None:
    """The kernel's has an underscore for each dash."""
    host = with_modules(root, UVM.replace("_", "-"))
    host.begin(OF_STACK)
    leave(host, OF_STACK.uuid)
    done = libhook(host, "recover", "--give-up", "nvidia-uvm", "--dry-run")
    assert done.out == "win11: module nvidia_uvm would be given up: it stays as it is\n"


@pytest.mark.parametrize("what", ["guest", "orphan", "entry"])
def test_what_another_process_gives_up_meanwhile_is_not_said_to_be_given_up_here(
    root: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """That is no failure: nothing holds it any more."""
    host = stuck(root)
    entry = Path(host.machine.state, "domains", f"{WIN11.uuid}.json")
    said = {
        "guest": f"win11: value {SWAPPINESS}",
        "orphan": f"a guest without a journal entry: value {SWAPPINESS}",
        "entry": f"the broken journal entry {WIN11.uuid}",
    }[what]
    if what == "orphan":
        entry.unlink()
    elif what == "entry":
        entry.write_text("")
        faults.heal(root)
    look, others = givingup.look, list[Done]()

    def overtaken(session: Session) -> givingup.Things:
        known = look(session)
        if not others:
            others.append(Done(0, "", ""))
            others[0] = libhook(host, "recover", "--give-up", thing)
        return known

    monkeypatch.setattr(givingup, "look", overtaken)
    thing = WIN11.uuid if what == "entry" else SWAPPINESS
    mine = libhook(host, "recover", "--give-up", thing)
    assert [(one.code, one.err) for one in (*others, mine)] == [(0, ""), (0, "")]
    assert others[0].out.startswith(f"{said} is given up")
    left = "left alone: " if what == "entry" else "left alone, because "
    assert mine.out == f"{said} {left}another process has given it back, or up, meanwhile\n"
    assert len([line for line in store.lines(f"{root}/var/log/libhook.jsonl") if line["event"] == "given up"]) == 1


@pytest.mark.parametrize("name", ["a b; exit 1", "it's", "-x", "--help", "", "x.json", "$(exit)"])
def test_a_broken_entry_with_any_file_name_is_given_up_by_the_command_that_is_shown(root: str, name: str) -> None:
    """Pasted into a shell it is one word, and no option."""
    host = value_host(root)
    make_state(host.machine)
    entry = Path(host.machine.state, "domains", f"{name}.json")
    entry.write_text("")
    entry.chmod(0o600)
    failed = libhook(host, "recover")
    assert (failed.code, failed.out) == (1, "")
    done = paste(host, failed.err.rstrip())
    assert (done.code, done.out, done.err) == (0, f"the broken journal entry {name} is given up\n", "")
    assert not entry.exists()


def test_a_name_that_nothing_has_gives_nothing_up(root: str) -> None:
    """The likeliest is named, also where another name is right; and a guest that runs keeps what it has."""
    host = value_host(root)
    assert host.libvirt.start(WIN11).error == ""
    wrong = libhook(host, "recover", "--give-up", SWAPPINESS, "--give-up", "vm.swapiness")
    assert (wrong.code, wrong.out) == (1, "")
    meant = (
        f"libhook holds nothing called vm.swapiness: did you mean {SWAPPINESS}? libhook status shows what it holds\n"
    )
    assert wrong.err == meant
    for thing in (SWAPPINESS, NIC):
        kept = libhook(host, "recover", "--give-up", thing)
        assert (kept.code, kept.out) == (1, "")
        assert "left alone, because" in kept.err
    held = host.state.load(WIN11.uuid)
    assert held
    assert len(held.actions) == 2
    host.libvirt.stop(WIN11.name, "shutdown")
    assert (host.read(SWAPPINESS), host.leftovers) == ("60", [])


def _meanwhile(monkeypatch: pytest.MonkeyPatch, deed: Callable[[], object]) -> None:
    """Another process does this between the look and what is done."""
    look = givingup.look

    def overtaken(session: Session) -> givingup.Things:
        known = look(session)
        deed()
        return known

    monkeypatch.setattr(givingup, "look", overtaken)


def test_a_guest_that_lives_again_meanwhile_keeps_what_it_has(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look under the guest's lock counts."""
    host = stuck(root)
    held = host.state.load(WIN11.uuid)
    assert held
    _meanwhile(monkeypatch, lambda: host.state.save(held._replace(phase="started")))
    monkeypatch.setattr(giveup, "sign_of_life", lambda held, _: "it runs" if held.phase == "started" else None)
    kept = libhook(host, "recover", "--give-up", SWAPPINESS)
    assert (kept.code, kept.err) == (1, f"win11: value {SWAPPINESS} left alone, because it runs\n")
    assert host.state.load(WIN11.uuid)


def test_a_broken_entry_that_a_later_version_writes_meanwhile_stays(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That version knows what is in it."""
    host = stuck(root)
    entry = Path(host.machine.state, "domains", f"{WIN11.uuid}.json")
    later = entry.read_text().replace('"format": ', '"format": 9')
    entry.write_text("")
    _meanwhile(monkeypatch, lambda: entry.write_text(later))
    kept = libhook(host, "recover", "--give-up", WIN11.uuid)
    assert (kept.code, kept.out) == (1, "")
    assert kept.err.startswith(f"the broken journal entry {WIN11.uuid} left alone: {entry}: a later libhook wrote it")
    assert entry.read_text() == later


@pytest.mark.parametrize("later", [True, False])
def test_the_claims_to_what_is_given_up_cannot_be_read_by_then(
    root: str, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    """Nobody knows what a broken file says, so the entry forgets the thing; what a later version wrote stays."""
    host = stuck(root)
    shared = Path(host.machine.state, "shared", "value%20proc%20sys%20vm%20swappiness.json")
    text = shared.read_text().replace('"format": ', '"format": 9') if later else ""
    _meanwhile(monkeypatch, lambda: shared.write_text(text))
    done = libhook(host, "recover", "--give-up", SWAPPINESS)
    logged = [line["event"] for line in store.lines(f"{root}/var/log/libhook.jsonl")]
    assert (done.code, "not forgotten" in logged, bool(host.state.load(WIN11.uuid))) == (
        int(later),
        not later,
        later,
    ), (done.out, done.err)


def test_giving_up_has_the_time_that_the_settings_give(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the guest whose thing it is."""
    host, left = value_host(root, f"{SET}[domains.win11]\nwrite_deadline = 600\n"), list[float]()
    host.begin(WIN11)
    leave(host, WIN11.uuid)
    monkeypatch.setattr(giveup, "give_up", lambda session, *_: left.append(session.deadline.left))
    assert libhook(host, "recover", "--give-up", SWAPPINESS).code == 0
    assert [500 < one <= 600 for one in left] == [True]
