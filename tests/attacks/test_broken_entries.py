# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest's journal entry that nobody can read, in whatever way, keeps only what its guest may have."""

import os
from pathlib import Path

import pytest
from cases import DISK, NIC
from command import libhook
from scenario import Host, guest

from libhook.effects.state import State
from libhook.facts.entry import Held
from libhook.simulation.hosts import workstation

WIN11, OTHER = guest(NIC), guest(DISK, name="other")._replace(uuid="11111111-2222-3333-4444-555555555555")
VALUE = "/proc/sys/vm/swappiness"


def _truncated(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:-2])


def _binary(entry: Path) -> None:
    entry.write_bytes(bytes(range(256)))


def _too_big(entry: Path) -> None:
    os.truncate(entry, (1 << 24) + 1)


def _nested(entry: Path) -> None:
    entry.write_text("[" * 200_000)


def _anybodys(entry: Path) -> None:
    entry.chmod(0o666)


def _link(entry: Path) -> None:
    entry.rename(entry.with_suffix(".kept"))
    entry.symlink_to(entry.with_suffix(".kept"))


def _pipe(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry, 0o600)


def _folder(entry: Path) -> None:
    entry.unlink()
    entry.mkdir(0o700)


@pytest.mark.parametrize("spoil", [_truncated, _binary, _too_big, _nested, _anybodys, _link, _pipe, _folder])
def test_an_entry_that_is_broken_in_any_way_keeps_nothing_of_others(root: str, spoil: object) -> None:
    """What others claim comes back at their end. It is shown, and given up as the dry run says. A folder is not given
    up, since libhook never made it."""
    host = Host(root, workstation(), '[values]\n"vm.swappiness" = 10\n')
    host.put(VALUE, "60")
    for one in (WIN11, OTHER):
        host.begin(one)
    entry = Path(host.machine.state, "domains", f"{WIN11.uuid}.json")
    spoil(entry)  # type: ignore[operator]
    host.event(OTHER, "release", "shutdown")
    assert (host.read(VALUE), host.driver(DISK)) == ("60", "nvme")
    shown = libhook(host, "status")
    assert (shown.code, str(entry) in shown.err) == (1, True)
    dry, done = (libhook(host, "recover", "--give-up", WIN11.uuid, *more) for more in (["--dry-run"], []))
    if spoil is _folder:
        assert (done.code, done.out, done.err) == (dry.code, dry.out, dry.err)
        assert done.err == (
            f"the broken journal entry {WIN11.uuid} left alone: {entry} is a folder: find out who made it, "
            "then remove it\n"
        )
        entry.rmdir()
    else:
        assert (dry.code, done.code, done.out) == (0, 0, dry.out.replace("would be", "is")), done.err
        entry.with_suffix(".kept").unlink(missing_ok=True)
    libhook(host, "recover")
    assert host.leftovers == []


def test_an_entry_that_could_not_be_read_again_refuses_the_start(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is touched, whatever its bounds have not foreseen."""
    host = Host(root, workstation())

    def fail(*_: object) -> Held:
        raise RecursionError("too deep")

    monkeypatch.setattr(Held, "from_json", fail)
    refused = host.event(WIN11, "prepare")
    what = "the journal entry of the guest win11 could not be read again"
    assert refused.line.startswith(f'{what} (RecursionError: "too deep"): ')
    monkeypatch.undo()
    host.event(WIN11, "release", "failed")
    assert (refused.writes, host.leftovers) == ((), [])


def test_a_claim_whose_last_guest_ends_while_recover_looks_is_no_orphan(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is gone by the time that it is read."""
    host = Host(root, workstation())
    names = State.names
    monkeypatch.setattr(State, "names", lambda self, kind: ["gone.json"] if kind == "shared" else names(self, kind))
    assert (libhook(host, "recover").code, libhook(host, "recover").err) == (0, "")
